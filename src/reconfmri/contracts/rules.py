"""Every rule of the workflow with every file that it makes, once: of what it is, and what it holds.

`files.Layout` says where they lie. A rule, its script and its folder of logs share one name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, Literal

from reconfmri.config import Study
from reconfmri.contracts import questions
from reconfmri.contracts.voxels import voxel_files
from reconfmri.tables import MISSING
from reconfmri.templates import SPACE

Unit = Literal["scan", "anatomy", "person", "scale", "study"]

NII, TSV, JSON, TXT, PNG = ".nii.gz", ".tsv", ".json", ".txt", ".png"


@dataclass(frozen=True)
class File:
    """A file that a rule makes of each unit: a BIDS derivative with `entities`, or a `path` in the results.

    `caption` is the page of workflow/report/ that explains it in Snakemake's own report, under `category`.
    """

    what: str
    of: Unit
    suffix: str = ""
    ext: str = TSV
    entities: Mapping[str, str] = field(default_factory=dict)
    path: str = ""
    caption: str = ""
    category: str = "Tables"


def of_scan(what: str, suffix: str, ext: str = TSV, **entities: str) -> File:
    """Return a BIDS derivative of every scan."""
    return File(what, "scan", suffix, ext, entities)


def of_anatomy(what: str, suffix: str, ext: str = NII, **entities: str) -> File:
    """Return a BIDS derivative of every person, or of every session that has an anatomy of its own."""
    return File(what, "anatomy", suffix, ext, entities)


def exclusions_after(desc: str) -> File:
    """Return the exclusions of a scan as far as one step knows them."""
    return of_scan("Exclusions and remarks of the scan up to this step", "exclusions", desc=desc)


def in_results(
    what: str, path: str, of: Unit = "study", *, caption: str = "", category: str = "Tables"
) -> File:
    """Return a file of the results folder that is no BIDS derivative."""
    return File(what, of, path=path, caption=caption, category=category)


@dataclass(frozen=True)
class Rule:
    """A rule of the workflow: what one job is of, its name in `reconfmri status`, its files, main one first.

    `needs` is what the study file must have (`first_level.maps`), `engine` the one of preprocessing that has
    the rule, and `column` the file of the run table without which a scan has no such job. `named` are more
    files in the results folder, whose names follow from the study.
    """

    of: Unit
    label: str
    files: Mapping[str, File]
    needs: str = ""
    engine: str = ""
    named: Callable[[Study], Iterable[str]] | None = None
    column: str = "bold"

    def is_in(self, study: Study) -> bool:
        """Whether the workflow of a study has such jobs."""
        if self.engine not in ("", study.preprocessing.engine):
            return False
        return not self.needs or bool(reduce(_part, self.needs.split("."), study))

    def task(self, study: Study) -> str | None:
        """The task whose scans it works on; None for every task of the study."""
        section = getattr(study, self.needs.partition(".")[0], None) if self.needs else None
        return getattr(section, "task", None)

    def is_of(self, study: Study, scan: Mapping[Any, Any]) -> bool:
        """Whether there is a job for a row of the run table."""
        of_task = self.task(study) in (None, scan["task"]) and scan["task"] in study.tasks
        return self.is_in(study) and of_task and scan[self.column] != MISSING


def _part(section: Any, name: str) -> Any:
    return getattr(section, name, None)


def _measures(desc: str, what: str) -> File:
    return of_scan(what, "measures", desc=desc)


class TablesOf(Mapping[str, File]):
    """The tables of the group questions that a rule answers, by their names, as they are registered now."""

    def __init__(self, rule: str):
        self.rule = rule

    def __getitem__(self, name: str) -> File:
        return self._files()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files())

    def __len__(self) -> int:
        return len(self._files())

    def _files(self) -> dict[str, File]:
        return {
            name: in_results(spec.what, questions.place_of(name))
            for question in questions.questions_of(self.rule)
            for name, spec in question.tables.items()
        }


PREPROCESSED = {
    "bold": of_scan("Preprocessed series in template space", "bold", NII, space=SPACE, desc="preproc"),
    "mask": of_scan("Brain mask of the run in template space", "mask", NII, space=SPACE, desc="brain"),
    "dseg": of_scan("Tissue of the anatomy on the run's grid", "dseg", NII, space=SPACE),
    "metadata": of_scan("What was done to the series", "bold", JSON, space=SPACE, desc="preproc"),
    "confounds": of_scan("Confounds, in fMRIPrep's names", "timeseries", desc="confounds"),
    "columns": of_scan("Every column of the confounds", "timeseries", JSON, desc="confounds"),
}

# In the order of the workflow.
RULES: dict[str, Rule] = {
    "describe_derivatives": Rule(
        "study",
        "description",
        {
            "description": in_results(
                "BIDS description of the derivatives", "derivatives/dataset_description.json"
            ),
            "readme": in_results("What the derivatives are", "derivatives/README.md"),
        },
    ),
    "prepare_anatomy": Rule(
        "anatomy",
        "anatomy",
        {
            "t1w": of_anatomy("T1w of all sessions, bias-corrected", "T1w", desc="preproc"),
            "mask": of_anatomy("Brain mask", "mask", desc="brain"),
            "dseg": of_anatomy("Tissue", "dseg"),
            "to_t1w": of_anatomy(
                "Points of the template in the T1w", "xfm", from_="T1w", to=SPACE, mode="image"
            ),
            "facts": of_anatomy("How the anatomy was made", "T1w", JSON, desc="preproc"),
            "exclusions": of_anatomy("Exclusions and remarks of the anatomy", "exclusions", TSV),
        },
        engine="embedded",
    ),
    "align_run": Rule(
        "scan",
        "alignment",
        {
            "alignment": of_scan(
                "Head motion, coregistration and their quality", "xfm", JSON, desc="alignment"
            ),
            "boldref": of_scan("Reference volume", "boldref", NII),
            "mask": of_scan("Brain mask of the reference volume", "mask", NII, desc="brain"),
            "displacement": of_scan("Distortion, mm", "fieldmap", NII, desc="displacement"),
            "head_motion": of_scan(
                "Head motion as ITK transforms",
                "xfm",
                TXT,
                from_="orig",
                to="boldref",
                mode="image",
                desc="hmc",
            ),
            "coregistration": of_scan(
                "EPI to T1w as an ITK transform",
                "xfm",
                TXT,
                from_="boldref",
                to="T1w",
                mode="image",
                desc="coreg",
            ),
            "exclusions": exclusions_after("align"),
        },
        engine="embedded",
    ),
    "resample_run": Rule(
        "scan", "resampling", PREPROCESSED | {"exclusions": exclusions_after("resample")}, engine="embedded"
    ),
    "run_fmriprep": Rule(
        "person",
        "fMRIPrep",
        {
            "record": in_results(
                "Record of the participant's fMRIPrep job", "fmriprep_jobs/sub-{sub}.json", "person"
            )
        },
        needs="preprocessing.fmriprep.container",
        engine="fmriprep",
    ),
    "adopt_fmriprep_run": Rule(
        "scan",
        "adoption",
        PREPROCESSED
        | {
            "boldref": of_scan("Reference volume in template space", "boldref", NII, space=SPACE),
            "t1w": of_scan("T1w in template space", "T1w", NII, space=SPACE, desc="preproc"),
            "exclusions": exclusions_after("adopt"),
        },
        engine="fmriprep",
    ),
    "adopt_fmriprep_anatomy": Rule(
        "anatomy",
        "anatomy",
        {
            "t1w": of_anatomy("T1w in template space", "T1w", space=SPACE, desc="preproc"),
            "mask": of_anatomy("Brain mask in template space", "mask", space=SPACE, desc="brain"),
            "dseg": of_anatomy("Tissue in template space", "dseg", space=SPACE),
            "to_t1w": of_anatomy(
                "The identity: both are in template space", "xfm", from_=SPACE, to=SPACE, mode="image"
            ),
            "facts": of_anatomy("Where the anatomy is from", "T1w", JSON, space=SPACE, desc="preproc"),
        },
        engine="fmriprep",
    ),
    "carry_atlas": Rule(
        "study",
        "regions",
        {
            "masks": in_results(
                "Regions on the target grid, percent probability inside of each",
                f"derivatives/atlas/space-{SPACE}_regions.nii.gz",
            ),
            "table": in_results("Sizes of the regions", f"derivatives/atlas/space-{SPACE}_regions.tsv"),
        },
    ),
    "extract_region_signals": Rule(
        "scan",
        "signals",
        {
            "signals": of_scan("Mean signal of every region", "timeseries", seg="study"),
            "coverage": of_scan("Coverage and temporal SNR of every region", "coverage", seg="study"),
            "exclusions": exclusions_after("signals"),
        },
    ),
    "assess_quality": Rule(
        "scan",
        "quality",
        {
            "measures": _measures("quality", "Quality of the scan in numbers"),
            "outlines": of_scan("Brain and regions on the mean image", "bold", PNG, desc="outlines"),
            "edges": of_scan("Edges of the T1w on the reference volume", "bold", PNG, desc="edges"),
            "carpet": of_scan("Carpet plot", "bold", PNG, desc="carpet"),
            "tsnr": of_scan("Temporal SNR", "bold", PNG, desc="tsnr"),
            "exclusions": exclusions_after("quality"),
        },
    ),
    "compare_sessions": Rule(
        "person",
        "sessions",
        {
            "exclusions": File(
                "Exclusions that only a person's other sessions show",
                "person",
                "exclusions",
                TSV,
                {"desc": "sessions"},
            )
        },
    ),
    "audit_sessions": Rule(
        "study",
        "session parity",
        {
            "parity": in_results(
                "Protocol and processing of a person's sessions side by side", "parity.tsv", caption="parity"
            ),
            "description": in_results("Columns of parity.tsv", "parity.json"),
        },
    ),
    "fit_first_level": Rule(
        "scan",
        "first level",
        {
            "measures": _measures("activation", "Contrasts per region, percent signal change"),
            "design": of_scan("Design matrix", "design"),
            "scripts": of_scan("Estimates of single scripts, LSA and LSS", "estimates", desc="scripts"),
            "exclusions": exclusions_after("activation"),
        },
        needs="first_level",
        column="events",
    ),
    "estimate_maps": Rule(
        "scan",
        "maps",
        {
            "maps": of_scan(
                "Voxelwise contrast", "statmap", NII, space=SPACE, contrast="{contrast}", stat="{stat}"
            ),
            "exclusions": exclusions_after("maps"),
        },
        needs="first_level.maps",
        column="events",
    ),
    "estimate_connectivity": Rule(
        "scan",
        "connectivity",
        {
            "measures": _measures("connectivity", "Connectivity per pair of regions, by every estimator"),
            "pairs": of_scan("The same with the SDs of seed and target beside", "connectivity"),
            "exclusions": exclusions_after("connectivity"),
        },
        needs="connectivity",
    ),
    "score_skin_conductance": Rule(
        "scan",
        "skin",
        {
            "measures": _measures("scr", "Skin conductance per condition"),
            "scripts": of_scan(
                "Skin conductance of every script, with the seconds used", "scripts", desc="scr"
            ),
            "picture": of_scan("Skin conductance: raw, cleaned, events, scores", "physio", PNG, desc="scr"),
            "exclusions": exclusions_after("scr"),
        },
        needs="skin_conductance",
        column="physio",
    ),
    "score_physiology": Rule(
        "scan",
        "physiology",
        {
            "measures": _measures("physiology", "Heart rate, respiration and EMG per condition"),
            "scripts": of_scan(
                "Heart rate, respiration and EMG of every script", "scripts", desc="physiology"
            ),
            "picture": of_scan(
                "Heart rate, respiration and EMG of the run", "physio", PNG, desc="physiology"
            ),
            "exclusions": exclusions_after("physiology"),
        },
        needs="physiology",
        column="physio",
    ),
    "score_scale": Rule(
        "scale",
        "scale",
        {
            "measures": in_results("Scores of a clinical scale", "scales/{scale}_measures.tsv", "scale"),
            "exclusions": in_results(
                "Scores that are missing, with the reason", "scales/{scale}_exclusions.tsv", "scale"
            ),
        },
        needs="scales",
    ),
    "stack_measures": Rule(
        "study",
        "measures",
        {
            "measures": in_results(
                "Every measure of every person and session", "measures.tsv", caption="measures"
            ),
            "description": in_results("Columns of measures.tsv", "measures.json"),
        },
    ),
    "stack_exclusions": Rule(
        "study",
        "exclusions",
        {
            "exclusions": in_results("Every exclusion and remark", "exclusions.tsv", caption="exclusions"),
            "description": in_results("Columns of exclusions.tsv", "exclusions.json"),
            "ignored": in_results("What is no BIDS derivative, for validators", "derivatives/.bidsignore"),
        },
    ),
    "describe_participants": Rule(
        "study",
        "participants",
        {
            "index": in_results("List of the participants' pages", "participants/index.html"),
            "cockpit": in_results("The page on which raters judge every scan", "participants/cockpit.html"),
            "pages": in_results(
                "A participant's scans in pictures and numbers", "participants/sub-{sub}.html", "person"
            ),
            "pictures": of_anatomy("Regions on the T1w", "T1w", PNG, desc="regions"),
        },
    ),
    "fit_frequentist_models": Rule(
        "study",
        "frequentist models",
        TablesOf("fit_frequentist_models"),
        needs="group",
    ),
    "test_by_randomisation": Rule(
        "study",
        "randomisation test",
        TablesOf("test_by_randomisation"),
        needs="group",
    ),
    "examine_missing_visits": Rule(
        "study",
        "missing visits",
        TablesOf("examine_missing_visits"),
        needs="group",
    ),
    "fit_bayesian_models": Rule(
        "study",
        "Bayesian models",
        TablesOf("fit_bayesian_models"),
        needs="group",
    ),
    "collect_estimates": Rule(
        "study",
        "estimates",
        {
            "estimates": in_results("Every question by every method", "estimates.tsv", caption="estimates"),
            "description": in_results("Columns of estimates.tsv", "estimates.json"),
        },
        needs="group",
    ),
    "compare_maps": Rule(
        "study",
        "voxels",
        TablesOf("compare_maps"),
        needs="group.voxels",
        named=lambda study: voxel_files(study.group, [session.id for session in study.sessions]),
    ),
    "build_report": Rule(
        "study",
        "report",
        {
            "report": in_results("The report, one page", "report.html", caption="report", category="Report"),
            "headline": in_results("The primary result in one line", "headline.txt"),
            "flow": in_results("People and scans from screening to the models", "group/flow.tsv"),
            "flow_description": in_results("Columns of flow.tsv", "group/flow.json"),
            "flow_diagram": in_results("The same as a CONSORT diagram", "group/flow.svg"),
            "codes": in_results("Who is who in the report, for the lab", "participants/report_codes.tsv"),
            "codes_description": in_results("Columns of report_codes.tsv", "participants/report_codes.json"),
        },
    ),
}


def recordings(study: Study) -> dict[str, str]:
    """Return the rules that draw a recording of a scan, by the `desc` of their pictures."""
    return {
        rule.files["picture"].entities["desc"]: name
        for name, rule in RULES.items()
        if rule.of == "scan" and "picture" in rule.files and rule.is_in(study)
    }


def producers(study: Study) -> dict[str, str]:
    """Return the rules that measure the scans of a study, by the `desc` of their tables."""
    return {
        rule.files["measures"].entities["desc"]: name
        for name, rule in RULES.items()
        if rule.of == "scan" and "measures" in rule.files and rule.is_in(study)
    }
