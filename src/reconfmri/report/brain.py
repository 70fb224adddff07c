"""Sections on the brain: regions, the model of one run, and first-level results without arms."""

from __future__ import annotations

import pandas as pd

from reconfmri.config import FirstLevel, Task, condition_label, outcome_label
from reconfmri.figures import habituation as curves
from reconfmri.figures import images, trial
from reconfmri.figures.labels import region_groups, session_name
from reconfmri.report import results
from reconfmri.report.blocks import Block, picture, scan_label
from reconfmri.report.comparisons import group_of, rows_of
from reconfmri.report.inputs import ReportInputs
from reconfmri.report.words import ADJECTIVES
from reconfmri.signal.first_level import columns_of_task, variance_inflation


def regions(inputs: ReportInputs) -> Block:
    """Return the regions on anatomy and their table."""
    from reconfmri.templates import target_brain

    shown = None
    if inputs.regions is not None:
        import nibabel

        figure = images.regions_on_anatomy(
            inputs.regions, region_groups(inputs.study.rois), nibabel.load(target_brain())
        )
        caption = (
            "The regions on the template brain (MNI152NLin2009cAsym), coronal above and axial below, cut "
            "where each "
            "is largest. Person's left is on the left."
        )
        names = ", ".join(map(outcome_label, inputs.study.rois.names))
        alt = f"Outlines of the regions on the template brain. {names}"
        shown = picture(figure, alt=alt, caption=caption, as_png=True)
    return {
        "regions": shown,
        "region_rows": results.region_rows(inputs.study, inputs.region_table, inputs.measures),
    }


def response(inputs: ReportInputs) -> Block:
    """Return the design of one run and, in a study without arms, the first-level results."""
    shown = None
    if inputs.design is not None and inputs.study.first_level:
        task = inputs.study.tasks[inputs.study.first_level.task].windowed
        names = list(map(str, inputs.design.columns))
        columns = columns_of_task(names, task, inputs.study.first_level)
        run = inputs.design_run
        figure = images.design_matrix(inputs.design, float(run["tr"]), task_columns=columns)
        where = scan_label(run["participant_id"], run["session_id"], run["task"], run["run"])
        caption = f"Design of {where}: the task regressors above, all {len(names)} columns below. "
        caption += _precision(inputs.design, task, inputs.study.first_level)
        shown = picture(
            figure,
            alt=f"Design matrix of one run. {len(columns)} task regressors: {', '.join(map(str, columns))}",
            caption=caption,
            as_png=True,
        )
    return {"design": shown, "habituation": _habituation(inputs), **_first_level(inputs)}


def _precision(design: pd.DataFrame, task: Task, settings: FirstLevel) -> str:
    """The degrees of freedom of a run's model, and what its contrasts lose to the other columns."""
    text = f"Degrees of freedom: {len(design) - design.shape[1]}."
    if not (left := variance_inflation(design, task, settings)):
        return text
    said = [f"{condition_label(name)} {value:.3g}" for name, value in left.items()]
    return (
        f"{text} Variance of each contrast relative to the same events without confounds and drifts, under "
        f"white noise: {', '.join(said)}."
    )


def _habituation(inputs: ReportInputs) -> Block | None:
    """Responses over the repetitions of a script, where a condition has several."""
    scripts, study = inputs.scripts, inputs.study
    if scripts is None or not (scripts["repetition"] > 0).any():
        return None
    region = str(scripts["region"].iloc[0])
    keys = ["participant_id", "session_id", "condition", "repetition"]
    means = scripts.groupby(keys, sort=False)["value"].mean().reset_index()
    means["arm"] = curves.EVERYBODY
    if study.group and inputs.allocation is not None:
        means["arm"] = means["participant_id"].map(inputs.allocation.set_index("participant_id")["arm"])
    level = 100 * study.group.level if study.group else 95
    caption = (
        f"{outcome_label(region)}: response to each script in the order in which it was heard again, all "
        f"scripts in one model; means over people with {level:g} % intervals of Student's t. What the order "
        "of the scripts can separate is in the methods."
    )
    alt = (
        f"Mean response of the {outcome_label(region)} over repetitions of a script, by condition and session"
    )
    return picture(curves.habituation(means, study), alt=alt, caption=caption)


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
            figures.append(picture(figure, alt=f"First-level results in {unit}", caption=caption))
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
        picture(
            images.z_map(nibabel.load(path), brain),
            alt=f"Map {name}",
            caption=f"{name}: z above 3.1 (warm) or below −3.1 (cold), uncorrected.",
            as_png=True,
        )
        for name, path in inputs.maps[:6]
    ]


def connectivity(inputs: ReportInputs) -> Block:
    """Return the arm differences in connectivity, one matrix per condition."""
    study, estimates = inputs.study, inputs.tables.get("estimates")
    if study.connectivity is None or study.group is None or estimates is None:
        return {"edges": []}
    arms = group_of(study.group).arms
    estimates = rows_of(estimates, study.group.primary.compared, arms)
    shown = []
    for condition in study.connectivity.conditions:
        names = [f"{one}-{other}.{condition}" for one, other in study.connectivity.pairs]
        if estimates["outcome"].isin(names).any():
            figure = trial.edge_matrix(estimates, study, condition=condition, arms=" − ".join(arms.pair))
            visit = session_name(study, study.group.primary.session)
            caption = (
                f"Difference between arms at {visit}, {ADJECTIVES[study.group.primary.estimand]}, "
                "Bayesian, with "
                f"{100 * study.group.level:g} % intervals. Purple is lower in the "
                f"{arms.pair[0]} arm."
            )
            shown.append(
                picture(figure, alt="Matrix of connectivity differences", caption=caption, size="small")
            )
    return {"edges": shown}
