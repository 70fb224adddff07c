# The checked study, its scans, and the names of their files. No science here.
import os
from functools import partial
from pathlib import Path

from snakemake.exceptions import WorkflowError

from reconfmri.acquisition import acquisition_of
from reconfmri.bids import LABEL, bids_path, read_run_table, read_sidecar, verify_unchanged
from reconfmri.config import contrast_label, load_study
from reconfmri.derivatives import has_anatomy_per_session
from reconfmri.fieldmaps import fieldmap_of
from reconfmri.machine import THREADS, keep_caches, settle
from reconfmri.provenance import code_of, export_package_source

# Jobs run side by side: one thread each inside BLAS.
os.environ |= dict.fromkeys(THREADS, "1")
settle()
keep_caches(Path())

SPACE = "MNI152NLin2009cAsym"
DERIVATIVES = "results/derivatives"
ENVIRONMENT = "../../envs/reconfmri.yaml"

if "conda" in map(str, workflow.deployment_settings.deployment_method):
    try:  # what pip installs of this package, named so in envs/reconfmri.yaml
        export_package_source()
    except FileNotFoundError as error:
        raise WorkflowError(str(error))

try:
    study = load_study("config/config.yaml")
    if study.open_days:
        raise ValueError(
            f"E-CONF-C09 config/config.yaml: the days of the visits {study.open_days} are open. "
            "Mend: list the visits in order of time, baseline first, and fill in `day`"
        )
    scans = read_run_table("config/runs.tsv")
    if workflow.is_main_process:
        verify_unchanged(scans, Path(study.bids))
except (ValueError, FileNotFoundError) as error:
    raise WorkflowError(
        f"{error}\nA study folder is made by `reconfmri init`, its run table by `reconfmri index`."
    )

every_scan = scans

FILTERS = {
    "participant_id": "only_participants",
    "session_id": "only_sessions",
    "task": "only_tasks",
}
for column, key in FILTERS.items():
    if key in config:
        scans = scans[scans[column].str.removeprefix("sub-").isin(str(config[key]).split(","))]

has_sessions = (scans["session_id"] != "n/a").any()
has_runs = (scans["run"] != "n/a").any()
bids_root = Path(study.bids)


wildcard_constraints:
    sub=LABEL.pattern,
    ses=LABEL.pattern,
    task=LABEL.pattern,
    run=LABEL.pattern,


run_entities = {
    "sub": "{sub}",
    "ses": "{ses}" if has_sessions else None,
    "task": "{task}",
    "run": "{run}" if has_runs else None,
}
run_file = partial(bids_path, DERIVATIVES, datatype="func", **run_entities)
person_file = partial(bids_path, DERIVATIVES, datatype="func", sub="{sub}")
ANATOMY_PARTS = ("t1w", "mask", "dseg", "to_t1w", "facts")
visits = {session.id: number for number, session in enumerate(study.sessions)}
by_visit = every_scan.sort_values("session_id", key=lambda ids: ids.map(visits), kind="stable")
if study.preprocessing.engine == "fmriprep":
    sessionwise = has_sessions and has_anatomy_per_session(Path(), study.preprocessing.fmriprep)
else:
    sessionwise = has_sessions and study.preprocessing.anatomy == "sessionwise"
anatomy_file = partial(
    bids_path, DERIVATIVES, datatype="anat", sub="{sub}", ses="{ses}" if sessionwise else None
)


def scans_of_anatomy(wildcards):
    """All scans of a person, by visit, or of one session where each has its own anatomy."""
    own = by_visit[by_visit["participant_id"] == f"sub-{wildcards.sub}"]
    return own[own["session_id"] == wildcards.ses] if sessionwise else own


def t1w_images(wildcards):
    """The raw T1w images that an anatomy is made from, whichever scans are asked for, and their sha256."""
    own = scans_of_anatomy(wildcards)
    if study.preprocessing.anatomy == "baseline":
        own = own[:1]
    return dict(zip(own["t1w"], own["t1w_sha256"]))


def log_of(rule_name):
    """One log per rule and scan, named as the scan."""
    scan = Path(run_file(suffix="bold", ext="")).name.removesuffix("_bold")
    return f"logs/{rule_name}/{scan}.log"


def wildcards_of(scan):
    """The wildcards of one row of the run table; a scan without run entity beside others that have one is run 1."""
    return {
        "sub": scan.participant_id.removeprefix("sub-"),
        "ses": scan.session_id,
        "task": scan.task,
        "run": "1" if scan.run == "n/a" else scan.run,
    }


row_of = {tuple(wildcards_of(scan).values()): scan for scan in scans.itertuples()}


def scan_of(wildcards):
    given = {"ses": "n/a", "run": "1", **dict(wildcards.items())}
    return row_of[tuple(given[key] for key in ("sub", "ses", "task", "run"))]


def raw(column):
    """Input function: the raw file of a scan that the run table names in `column`."""
    return lambda wildcards: str(bids_root / getattr(scan_of(wildcards), column))


def sidecar_of(wildcards):
    """What the raw run's sidecars say of its acquisition; a change makes the run again."""
    return acquisition_of(read_sidecar(bids_root, scan_of(wildcards).bold))


def fieldmap_for(wildcards):
    """The complete field map that is meant for a run, None without one or when the study does without."""
    if study.preprocessing.distortion == "none":
        return None
    bold = scan_of(wildcards).bold
    found = fieldmap_of(
        bids_root,
        bold,
        read_sidecar(bids_root, bold),
        wanted=study.filters.fmap,
        readout_time=study.preprocessing.readout_time,
    )
    return found.under(bids_root) if found else None


def scans_with(task=None, column="bold", person=None):
    """The scans (of a task, of a person) that have a raw file in `column`."""
    chosen = scans[(scans[column] != "n/a") & (scans["task"].isin([task] if task else list(study.tasks)))]
    return chosen[chosen["participant_id"] == f"sub-{person}"] if person else chosen


def of_runs(pattern, task=None, column="bold", person=None):
    """One file per such scan."""
    chosen = scans_with(task, column, person)
    return [pattern.format(**wildcards_of(scan)) for scan in chosen.itertuples()]


def of_people(pattern):
    """One file per person (and session, where the pattern names it) who has a scan in the tasks of the study."""
    return list(dict.fromkeys(of_runs(pattern)))


def facts_of_runs():
    """What a page says of each scan, in the order of `of_runs`, as Snakemake can record it."""
    keys = ["participant_id", "session_id", "task", "run", "tr", "n_volumes"]
    return scans.loc[scans["task"].isin(list(study.tasks)), keys].astype(str).to_dict("records")


def settings_of(section):
    """A section as Snakemake can record it: plain values, by name; None when the study does without it."""
    return section.model_dump(mode="json") if section else None


def participants_table():
    """participants.tsv, where the group model takes covariates from it."""
    wanted = study.group and study.group.participant_columns
    return str(bids_root / "participants.tsv") if wanted else []


def measure_tables():
    """Every table of measures that participant-level rules make, one per scan and producer."""
    tables = of_runs(rules.assess_quality.output.measures)
    if study.first_level:
        tables += of_runs(rules.fit_first_level.output.measures, study.first_level.task, "events")
    if study.connectivity:
        tables += of_runs(rules.estimate_connectivity.output.measures, study.connectivity.task)
    if study.skin_conductance:
        tables += of_runs(rules.score_skin_conductance.output.measures, study.skin_conductance.task, "physio")
    return tables + [f"results/scales/{name}_measures.tsv" for name in study.scales]


def exclusion_tables():
    """The exclusions beside every table of measures, of every person over sessions, and those of the maps."""
    people = dict.fromkeys(scans["participant_id"].str.removeprefix("sub-"))
    tables = [rules.compare_sessions.output.exclusions.format(sub=person) for person in people]
    tables += [table.replace("_measures.tsv", "_exclusions.tsv") for table in measure_tables()]
    if study.first_level and study.first_level.maps:
        tables += of_runs(rules.estimate_maps.output.exclusions, study.first_level.task, "events")
    return tables


def map_files():
    """The maps that the study file asks for, of every run."""
    if not (study.first_level and study.first_level.maps):
        return []
    return [
        path
        for pattern in rules.estimate_maps.output.maps
        for path in of_runs(pattern, study.first_level.task, "events")
    ]
