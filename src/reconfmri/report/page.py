"""The page: which sections a study has, what each shows, and the template that lays them out."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from reconfmri.exclusions import MISSING, Exclusion
from reconfmri.figures import images, trial
from reconfmri.figures.labels import (
    contrast_label,
    estimand_label,
    method_label,
    number,
    outcome_label,
    p_text,
    probability_text,
    session_name,
)
from reconfmri.figures.style import data_uri, to_png, to_svg
from reconfmri.report import flow, results
from reconfmri.report.inputs import Picture, ReportInputs
from reconfmri.report.methods import Facts, citations, methods_text
from reconfmri.report.words import ADJECTIVES, headline, planted_difference, primary_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HERE = Path(__file__).parent
MOST_PICTURES, AT_ONCE = 60, 4
Block = dict[str, Any]


def compose(inputs: ReportInputs) -> str:
    """Return the whole report as one HTML text that loads nothing from elsewhere and runs no script.

    Every value is escaped by the template; figures are embedded; the page's policy allows its own style only.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True,
        loader=FileSystemLoader(HERE),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    css = (HERE / "page.css").read_text(encoding="utf-8")
    context = {
        "css": Markup(css),  # noqa: S704 - our own file, not data
        "css_hash": Markup(base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()),  # noqa: S704
        **_front(inputs),
        **_people(inputs),
        **_scan_quality(inputs),
        **_regions(inputs),
        **_response(inputs),
        **_arms(inputs),
        **_small_print(inputs),
    }
    context["sections"] = list(_sections(inputs, context))
    return environment.get_template("page.html.j2").render(context)


def _sections(inputs: ReportInputs, shown: Block) -> Iterator[Block]:
    """The sections that have something to show, in the order of the page."""
    group = inputs.study.group is not None and inputs.estimates is not None
    candidates = [
        ("design", "Question and design" if inputs.study.question else "Design", True),
        ("scans", "Scans and exclusions", True),
        ("quality", "Quality of the scans", bool(shown["quality_dots"] or shown["scan_pictures"])),
        ("regions", "Regions", True),
        ("response", "Model of one run", shown["design"] is not None),
        ("first-level", "First-level results", not group and len(inputs.measures) > 0),
        ("course", "Outcomes over sessions", shown["trajectories"] is not None),
        ("differences", "Differences between arms", bool(shown["forests"])),
        ("coupling", "Coupling between regions", bool(shown["edges"])),
        ("estimates", "All estimates", bool(shown["estimate_groups"])),
        ("truth", "Truth beside estimate", bool(shown["truth_rows"])),
        ("methods", "Methods", True),
        ("provenance", "Provenance", True),
        ("cite", "What to cite", True),
    ]
    for name, title, present in candidates:
        if present:
            yield {"id": name, "title": title, "intro": INTRODUCTIONS.get(name, "")}


INTRODUCTIONS = {
    "quality": "Exclusions were decided by the thresholds below, before and without the arms.",
    "differences": "One row per outcome, one column per question asked of it. The adjusted difference and "
    "the "
    "difference of change can disagree: read them side by side.",
    "coupling": "Negative values: less coupling in the active arm.",
    "truth": "This trial was simulated with known effects, so each estimate can be judged.",
    "estimates": "Each cell: estimate and interval, below it the spread and the probability or p value.",
    "methods": "Written from the settings of this study; every number is the one the code used.",
}


def _picture(figure: Figure, *, alt: str, caption: str, size: str = "", as_png: bool = False) -> Block:
    content: str | bytes = to_png(figure) if as_png else to_svg(figure)
    return {"uri": data_uri(content), "alt": alt, "caption": caption, "size": size}


def _front(inputs: ReportInputs) -> Block:
    study = inputs.study
    answer = _answer(inputs) if study.group and inputs.estimates is not None else None
    people, scans = inputs.runs["participant_id"].nunique(), len(inputs.runs)
    return {
        "title": study.name,
        "question": study.question.strip(),
        "truth": inputs.truth is not None,
        "has_group": study.group is not None,
        "answer": answer,
        "headline": f"{_several(people, 'participant')}, {_several(scans, 'scan')}. No arms: no group model.",
    }


def _several(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def _answer(inputs: ReportInputs) -> Block | None:
    """The primary result as a title and a row of facts."""
    study, group, estimates = inputs.study, inputs.study.group, inputs.estimates
    if group is None or estimates is None:
        return None
    primary = group.primary
    rows = primary_rows(estimates, group)
    visit = session_name(study, primary.session)
    title = (
        f"Primary outcome: {outcome_label(primary.outcome)} at {visit}, {group.arms.active} minus "
        f"{group.arms.control}, {ADJECTIVES.get(primary.estimand, primary.estimand)}"
    )
    bayes = rows.get("bayes")
    facts: list[Block] = []
    withheld = bayes is None or bayes["status"] != "ok"
    if bayes is None or withheld:
        facts.append({"name": "Bayesian estimate", "value": bayes["status"] if bayes else "not estimated"})
    else:
        facts += _bayesian_facts(bayes)
    facts += [_frequentist_fact(row) for name, row in rows.items() if name != "bayes"]
    if bayes is not None and bayes["n_active"] == bayes["n_active"]:
        value = f"{bayes['n_active']:.0f} + {bayes['n_control']:.0f}"
        facts.append({"name": "n", "value": value, "detail": f"{group.arms.active} + {group.arms.control}"})
    facts += _truth_fact(inputs, bayes)
    facts = [{"detail": "", "truth": False, **fact} for fact in facts]
    return {"title": title, "facts": facts, "withheld": withheld, "reading": _reading(inputs, bayes)}


def _bayesian_facts(row: Block) -> list[Block]:
    unit = str(row["unit"])
    interval = f"{number(row['lower'], unit)} to {number(row['upper'], unit)}"
    return [
        {
            "name": "Estimate",
            "value": number(row["estimate"], unit),
            "detail": f"{unit}, SD {number(row['sd'], unit)}",
        },
        {
            "name": f"{100 * row['level']:g} % interval",
            "value": interval,
            "detail": "Bayesian, highest density",
        },
        {"name": "P(difference < 0)", "value": probability_text(row["probability"]), "detail": "posterior"},
    ]


def _frequentist_fact(row: Block) -> Block:
    name = method_label(str(row["method"]))
    if row["status"] != "ok":
        return {"name": name, "value": "–", "detail": row["status"]}
    unit = str(row["unit"])
    detail = f"{number(row['estimate'], unit)} [{number(row['lower'], unit)}, {number(row['upper'], unit)}]"
    return {"name": f"p, {name}", "value": p_text(row["p"]), "detail": detail}


def _truth_fact(inputs: ReportInputs, row: Block | None) -> list[Block]:
    group = inputs.study.group
    if group is None or row is None:
        return []
    primary = group.primary
    baseline = inputs.study.sessions[0].id if inputs.study.sessions else None
    planted = planted_difference(
        inputs.truth, primary.outcome, primary.session, primary.estimand, baseline=baseline
    )
    if planted is None:
        return []
    return [
        {
            "name": "Planted truth",
            "value": number(planted, str(row["unit"])),
            "detail": str(row["unit"]),
            "truth": True,
        }
    ]


def _reading(inputs: ReportInputs, row: Block | None) -> str:
    group = inputs.study.group
    if group is None or row is None or row["status"] != "ok":
        return "The primary result is withheld; the table of all estimates says why."
    verb = "contains" if row["lower"] <= 0 <= row["upper"] else "excludes"
    direction = "lower" if row["estimate"] < 0 else "higher"
    start = f"The estimate is {direction} in the {group.arms.active} arm"
    return f"{start}; its {100 * row['level']:g} % interval {verb} zero."


def _people(inputs: ReportInputs) -> Block:
    study = inputs.study
    arms = flow.arms_of(inputs)
    randomised = {arm: len(people) for arm, people in arms.items()} if study.group else {}
    figure = trial.timeline(study, randomised)
    caption = "The planned course of the trial." if study.sessions else "One session per participant."
    absent = flow.absent_people(inputs)
    return {
        "timeline": _picture(figure, alt="Timeline of arms and sessions", caption=caption),
        "design_facts": _design_facts(inputs, randomised),
        "flow": _flow_tables(inputs),
        "absent": [(session_name(study, session), ", ".join(names)) for session, names in absent],
        "absent_count": sum(len(names) for _, names in absent),
        "exclusions": [_exclusion_row(row) for row in inputs.exclusions],
    }


def _design_facts(inputs: ReportInputs, randomised: dict[str, int]) -> list[tuple[str, str]]:
    study = inputs.study
    facts = []
    if randomised:
        facts.append(("Arms", ", ".join(f"{arm} (n = {count})" for arm, count in randomised.items())))
    for name, task in study.tasks.items():
        conditions = ", ".join(dict.fromkeys(task.conditions.values())) or "rest, no conditions"
        facts.append((f"Task {name}", conditions))
    contrasts = study.first_level.contrasts if study.first_level else {}
    if contrasts:
        facts.append(("Contrasts", "; ".join(contrast_label(name) for name in contrasts)))
    if study.scales:
        facts.append(
            (
                "Clinical scales",
                ", ".join(scale.unit.removesuffix(" points") for scale in study.scales.values()),
            )
        )
    if study.group:
        primary = study.group.primary
        asked = f"{outcome_label(primary.outcome)}, {session_name(study, primary.session)}"
        facts.append(("Primary outcome", f"{asked}; {estimand_label(primary.estimand).lower()}"))
        for name, members in study.group.families.items():
            facts.append((f"Family '{name}'", "; ".join(outcome_label(item) for item in members)))
    return facts


def _flow_tables(inputs: ReportInputs) -> list[tuple[str, list[Block]]]:
    study = inputs.study
    classes = {}
    if study.group:
        classes = {study.group.arms.active: "arm-active", study.group.arms.control: "arm-control"}
    tables: dict[str, list[Block]] = {}
    counted = flow.stations(inputs)
    for place, item in enumerate(counted):
        last = place + 1 == len(counted) or counted[place + 1].session != item.session
        expected = max(item.expected, 1)
        tables.setdefault(item.task, []).append(
            {
                "session": "all scans" if item.session == MISSING else session_name(study, item.session),
                "arm": item.arm,
                "arm_class": classes.get(item.arm, ""),
                "expected": item.expected,
                "present": item.present,
                "excluded": item.excluded,
                "usable": item.usable,
                "modelled": item.modelled,
                "share_present": f"{100 * item.present / expected:.1f}",
                "share_usable": f"{100 * item.usable / expected:.1f}",
                "last": last,
            }
        )
    return list(tables.items())


def _exclusion_row(row: Exclusion) -> Block:
    scan = _scan_label(row.participant_id, row.session_id, row.task, row.run)
    what = (
        "remark" if row.code.startswith("W-") else "scan" if row.region == MISSING else "region {row.region}"
    )
    if row.stage in flow.SIGNAL_STAGES and row.region == MISSING and what == "scan":
        what = {"score_skin_conductance": "skin conductance", "score_scale": "scale"}.get(
            row.stage, "coupling"
        )
    return {
        "what": what,
        "where": scan,
        "stage": row.stage.replace("_", " "),
        "reason": row.reason,
        "by": row.decided_by,
    }


def _scan_label(participant: str, session: str, task: str, run: str) -> str:
    parts = [participant]
    parts += [f"ses-{session.removeprefix('ses-')}"] if session != MISSING else []
    parts += [f"task-{task}"] if task != MISSING else []
    parts += [f"run-{run}"] if run != MISSING else []
    return " ".join(parts)


def _scan_quality(inputs: ReportInputs) -> Block:
    table = _quality_table(inputs)
    dots = None
    if len(table):
        figure = trial.quality_dots(table, inputs.study)
        caption = (
            "One dot per scan; a red cross is an excluded scan. Dashed: the threshold of exclusion. "
            "Arms are not shown."
        )
        dots = _picture(
            figure, alt="Motion and temporal signal-to-noise ratio of every scan", caption=caption
        )
    chosen, left_out = _chosen_pictures(inputs)
    note = (
        "The brain mask on the run's reference volume; the edges of the EPI on the T1w and on the template. "
    )
    note += "Person's left is on the left. "
    if left_out:
        note += (
            f"{_several(left_out, 'more picture')} are beside the preprocessed runs, in results/derivatives."
        )
    parts = [part for part in (chosen[:AT_ONCE], chosen[AT_ONCE:]) if part]
    return {"quality_dots": dots, "scan_pictures": parts, "pictures_note": note}


def _quality_table(inputs: ReportInputs) -> pd.DataFrame:
    measures = inputs.measures
    table = measures[measures["outcome"].isin(["fd.mean", "tsnr.median"])]
    out = {(scan["participant_id"], scan["session_id"]) for scan in flow.scans_of(inputs) if scan["excluded"]}
    keys = zip(table["participant_id"], table["session_id"].fillna(MISSING), strict=True)
    return table.assign(excluded=[key in out for key in keys])


def _chosen_pictures(inputs: ReportInputs) -> tuple[list[Block], int]:
    """The pictures of each scan together, flagged scans first, at most sixty; and how many are left out."""
    flags = _flags(inputs)
    scans: dict[tuple[str, str, str, str], list[Picture]] = {}
    for picture in inputs.pictures:
        scans.setdefault((picture.participant_id, picture.session_id, picture.task, picture.run), []).append(
            picture
        )
    ordered = sorted(scans.items(), key=lambda item: item[0] not in flags)
    shown: list[Block] = []
    count = 0
    for key, pictures in ordered:
        if count + len(pictures) > MOST_PICTURES:
            break
        count += len(pictures)
        label = _scan_label(*key)
        shown.append(
            {
                "name": label,
                "alt": f"Slices of {label}",
                "flag": flags.get(key, ""),
                "uris": [data_uri(picture.path.read_bytes()) for picture in pictures],
            }
        )
    return shown, len(inputs.pictures) - count


def _flags(inputs: ReportInputs) -> dict[tuple[str, str, str, str], str]:
    """Scans that are excluded, or that somebody should look at: a region or a remark speaks of them."""
    flags: dict[tuple[str, str, str, str], str] = {}
    for scan in flow.scans_of(inputs):
        key = (scan["participant_id"], scan["session_id"], scan["task"], scan["run"])
        if scan["excluded"]:
            flags[key] = "excluded"
    for row in inputs.exclusions:
        key = (row.participant_id, row.session_id.removeprefix("ses-"), row.task, row.run)
        if row.stage not in flow.SIGNAL_STAGES:
            flags.setdefault(key, "see remarks")
    return flags


def _regions(inputs: ReportInputs) -> Block:
    from reconfmri.templates import target_brain

    shown = None
    if inputs.regions is not None:
        import nibabel

        figure = images.regions_on_anatomy(
            inputs.regions, _region_groups(inputs), nibabel.load(target_brain())
        )
        caption = (
            "The regions on the template brain (MNI152NLin2009cAsym), coronal above and axial below, cut "
            "where each "
            "is largest. Person's left is on the left."
        )
        shown = _picture(
            figure, alt="Outlines of the regions on the template brain", caption=caption, as_png=True
        )
    return {"regions": shown, "region_rows": results.region_rows(inputs)}


def _region_groups(inputs: ReportInputs) -> dict[str, list[int]]:
    """Name -> volumes of the mask image; sides that are reported together share a colour."""
    rois = inputs.study.rois
    names = list(rois.regions)
    groups = {
        name: [names.index(part) for part in parts if part in names] for name, parts in rois.combined.items()
    }
    taken = {index for volumes in groups.values() for index in volumes}
    return groups | {name: [index] for index, name in enumerate(names) if index not in taken}


def _response(inputs: ReportInputs) -> Block:
    shown = None
    if inputs.design is not None and inputs.study.first_level:
        task = inputs.study.tasks[inputs.study.first_level.task]
        stems = tuple(dict.fromkeys(task.conditions.values()))
        columns = [
            name for name in inputs.design.columns if str(name).rsplit("_", 1)[0] in stems or name in stems
        ]
        run = inputs.design_run
        figure = images.design_matrix(inputs.design, float(run["tr"]), task_columns=columns)
        where = _scan_label(run["participant_id"], run["session_id"], run["task"], run["run"])
        caption = f"Design of {where}: the task regressors above, all {inputs.design.shape[1]} columns below."
        shown = _picture(figure, alt="Design matrix of one run", caption=caption, as_png=True)
    return {"design": shown, **_first_level(inputs)}


def _first_level(inputs: ReportInputs) -> Block:
    """Means over scans of a study without arms, one figure per unit."""
    if inputs.study.group is not None:
        return {"first_level": [], "maps": [], "measure_rows": []}
    figures = []
    brain = inputs.measures[inputs.measures["domain"].isin(["activation", "connectivity"])]
    single = not brain.duplicated("outcome").any()
    for unit, table in brain.groupby("unit", sort=False):
        if single and table["value"].notna().any():
            figure = trial.first_level_effects(table, str(unit))
            caption = "Estimate and 95 % interval of each outcome (1.96 standard errors)."
            figures.append(_picture(figure, alt=f"First-level results in {unit}", caption=caption))
    return {
        "first_level": figures,
        "maps": _maps(inputs),
        "measure_rows": results.measure_rows(inputs.measures),
    }


def _maps(inputs: ReportInputs) -> list[Block]:
    if not inputs.maps:
        return []
    import nibabel

    from reconfmri.templates import target_brain

    brain = nibabel.load(target_brain())
    return [
        _picture(
            images.z_map(nibabel.load(path), brain),
            alt=f"Map {path.name}",
            caption=f"{path.name}: z above 3.1 (warm) or below −3.1 (cold), uncorrected.",
            as_png=True,
        )
        for path in inputs.maps[:6]
    ]


def _arms(inputs: ReportInputs) -> Block:
    study, estimates = inputs.study, inputs.estimates
    empty: Block = {
        "trajectories": None, "forests": [], "edges": [], "estimate_groups": [], "estimand_titles": [],
        "diagnostics": None, "truth_rows": [], "recovery": None, "recovery_coefficients": "",
    }  # fmt: skip
    if study.group is None or estimates is None:
        return empty
    return empty | {
        "trajectories": _trajectories(inputs),
        "forests": _forests(inputs, estimates),
        "edges": _edges(inputs, estimates),
        "estimate_groups": results.estimate_groups(estimates, study),
        "estimand_titles": [estimand_label(name) for name in study.group.estimands],
        "diagnostics": _plain_table(inputs.diagnostics),
        **_truth(inputs),
    }


def _trajectories(inputs: ReportInputs) -> Block | None:
    group = inputs.study.group
    if group is None or inputs.allocation is None or not inputs.study.sessions:
        return None
    arms = inputs.allocation[["participant_id", "arm"]]
    table = inputs.measures.merge(arms, on="participant_id", how="inner", validate="many_to_one")
    table = table[table["outcome"].isin(group.outcomes) & table["value"].notna()]
    if not len(table):
        return None
    caption = (
        f"Means of the values that were observed, with {100 * group.level:g} % intervals of the mean; "
        "faint lines are "
        "participants. These are the data, not the models' estimates."
    )
    alt = "Every outcome over sessions, by arm"
    return _picture(trial.trajectories(table, inputs.study), alt=alt, caption=caption, size="large")


def _forests(inputs: ReportInputs, estimates: pd.DataFrame) -> list[Block]:
    group = inputs.study.group
    if group is None:
        return []
    known = [item.id for item in inputs.study.sessions]
    present = [name for name in known if (estimates["session"] == name).any()]
    present += [name for name in dict.fromkeys(estimates["session"]) if name not in present]
    shown = []
    for session in sorted(present, key=lambda name: name != group.primary.session):
        truth = results.truth_by_estimand(inputs, session)
        figure = trial.forest(estimates, inputs.study, session=session, truth=truth)
        name = session_name(inputs.study, session)
        caption = (
            f"At {name}: marks and {100 * group.level:g} % intervals; one unit of the axis is the unit's "
            "typical "
            f"spread between people ({_scales(inputs)}). Numbers are Bayesian, in the outcome's own unit; "
            "bold is "
            "the primary outcome."
        )
        primary = session == group.primary.session
        item = _picture(figure, alt=f"Differences between arms, {name}", caption=caption, size="large")
        shown.append(item | {"open": primary, "title": f"Differences at {name}"})
    return shown


def _scales(inputs: ReportInputs) -> str:
    group = inputs.study.group
    if group is None:
        return ""
    units = inputs.study.outcome_units()
    used = dict.fromkeys(units[name] for name in group.outcomes)
    return ", ".join(f"{group.scales[unit]:g} {unit}" for unit in used)


def _edges(inputs: ReportInputs, estimates: pd.DataFrame) -> list[Block]:
    study = inputs.study
    if study.connectivity is None or study.group is None:
        return []
    shown = []
    for condition in study.connectivity.conditions:
        names = [f"{one}-{other}.{condition}" for one, other in study.connectivity.pairs]
        if estimates["outcome"].isin(names).any():
            figure = trial.edge_matrix(estimates, study, condition=condition)
            visit = session_name(study, study.group.primary.session)
            caption = (
                f"Difference between arms at {visit}, {ADJECTIVES[study.group.primary.estimand]}, "
                "Bayesian, with "
                f"{100 * study.group.level:g} % intervals. Purple is lower in the "
                f"{study.group.arms.active} arm."
            )
            shown.append(
                _picture(figure, alt="Matrix of coupling differences", caption=caption, size="small")
            )
    return shown


def _truth(inputs: ReportInputs) -> Block:
    rows = results.truth_rows(inputs)
    shown, text = None, ""
    if rows:
        table = pd.DataFrame(rows)
        caption = (
            "Distance of each estimate from the planted truth (line), in posterior SDs; shaded: within 1.96."
        )
        shown = _picture(trial.recovery(table), alt="Distance of estimates from the truth", caption=caption)
        factors = (inputs.truth or {}).get("recovery", {})
        named = [f"{name.replace('_', ' ')} {float(value):.2f}" for name, value in factors.items()]
        text = (
            f"Share of a planted source that is left after sampling and averaging: {', '.join(named)}."
            if named
            else ""
        )
    return {"truth_rows": rows, "recovery": shown, "recovery_coefficients": text}


def _plain_table(table: pd.DataFrame | None) -> Block | None:
    if table is None or not len(table):
        return None
    return {
        "columns": [str(name) for name in table.columns],
        "rows": table.fillna("–").astype(str).to_numpy().tolist(),
    }


def _small_print(inputs: ReportInputs) -> Block:
    from reconfmri import __version__

    return {
        "methods": methods_text(inputs.study, facts_of(inputs.runs)),
        "seed": inputs.study.seed,
        "provenance": list(inputs.provenance.items()),
        "versions": list(inputs.versions.items()),
        "config_text": inputs.config_text,
        "citations": citations(inputs.study),
        "version": __version__,
    }


def facts_of(runs: pd.DataFrame) -> Facts:
    """Return the counts that the methods text names, from the run table."""
    volumes = runs["n_volumes"].dropna()
    return Facts(
        participants=int(runs["participant_id"].nunique()),
        scans=len(runs),
        trs=tuple(sorted({round(float(tr), 6) for tr in runs["tr"].dropna()})),
        volumes=(int(volumes.min()), int(volumes.max())) if len(volumes) else None,
    )


__all__ = ["compose", "facts_of", "headline"]
