"""Sections that compare the arms: courses, differences, coupling, estimates, truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from reconfmri.figures import firmness, predictive, trial
from reconfmri.figures import missing as missing_figures
from reconfmri.figures.labels import (
    estimand_label,
    number,
    session_name,
)
from reconfmri.report import results
from reconfmri.report.blocks import Block, picture
from reconfmri.report.inputs import ReportInputs
from reconfmri.report.words import ADJECTIVES

if TYPE_CHECKING:
    pass


def arms(inputs: ReportInputs) -> Block:
    """Return everything that compares the arms; empty pieces where the study has none."""
    study, estimates = inputs.study, inputs.estimates
    empty: Block = {
        "trajectories": None, "forests": [], "edges": [], "estimate_groups": [], "estimand_titles": [],
        "diagnostics": None, "prior_reach": None, "replicates": None, "unlike": [], "firmness": None,
        "moderation": [], "joint": [], "controls": None, "tipping": None,
        "tipping_words": [], "seen_rows": [], "reliability_rows": [], "reliability_note": "",
        "truth_rows": [], "recovery": None, "recovery_coefficients": "",
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
        **_predictions(inputs),
        "firmness": _firmness(inputs),
        "moderation": results.moderation_rows(inputs),
        "joint": results.joint_rows(inputs),
        "controls": _controls(inputs),
        **_missing_visits(inputs),
        "reliability_rows": results.reliability_rows(inputs),
        "reliability_note": results.reliability_note(inputs),
        **_truth(inputs),
    }


def _trajectories(inputs: ReportInputs) -> Block | None:
    group = inputs.study.group
    if group is None or inputs.allocation is None or not inputs.study.sessions:
        return None
    arms = inputs.allocation[["participant_id", "arm"]]
    table = inputs.measures.merge(arms, on="participant_id", how="inner", validate="many_to_one")
    table = table[table["outcome"].isin(group.modelled) & table["value"].notna()]
    if not len(table):
        return None
    caption = (
        f"Means of the values that were observed, with {100 * group.level:g} % intervals of the mean; "
        "faint lines are "
        "participants. These are the data, not the models' estimates."
    )
    alt = "Every outcome over sessions, by arm"
    return picture(trial.trajectories(table, inputs.study), alt=alt, caption=caption, size="large")


def _firmness(inputs: ReportInputs) -> Block | None:
    table = inputs.sensitivity
    if table is None or not len(table):
        return None
    people = table[(table["kind"] == "influence") & (table["method"] == "reml") & table["estimate"].notna()]
    caption = (
        "The primary question under other priors and other covariances over visits, and without each of "
        f"the {len(people)} participants in turn (shown: those who move the answer most). Without one of "
        f"them the REML estimate lies between {number(people['estimate'].min())} and "
        f"{number(people['estimate'].max())}."
    )
    alt = "The primary answer under other choices"
    return picture(firmness.alternatives(table), alt=alt, caption=caption)


def _predictions(inputs: ReportInputs) -> Block:
    """What the priors allow, what the model replicates, and every statistic that it does not."""
    table = inputs.predictions
    if table is None or inputs.study.group is None or not (table["status"] == "ok").any():
        return {}
    known = table[(table["check"] == "posterior") & (table["status"] == "ok")]
    far = known[(known["p"] < 0.025) | (known["p"] > 0.975)]
    allowed = (
        "Black: lowest to highest observed value of an outcome. Thick grey: lowest to highest value of a "
        "typical trial of this size made by the priors alone; thin grey: what they still allow. Purple: the "
        "ends of a clinical scale. Priors far wider than the data say little; narrower ones would decide."
    )
    made = (
        "The primary outcome: observed statistics beside 95 % of 500 trials that the model makes, with "
        f"the same people and missed visits. Over all outcomes {len(far)} of {len(known)} statistics lie "
        "outside their 95 % (posterior predictive p below 0.025 or above 0.975)."
    )
    primary = (known["outcome"] == inputs.study.group.primary.outcome).any()
    prior = ((table["check"] == "prior") & (table["status"] == "ok")).any()
    reach = predictive.prior_reach(table, inputs.study) if prior else None
    replicated = predictive.replicates(known, inputs.study) if primary else None
    return {
        "prior_reach": picture(reach, alt="What the priors allow", caption=allowed) if reach else None,
        "replicates": picture(replicated, alt="Replicated trials", caption=made, size="large")
        if replicated
        else None,
        "unlike": results.unlike_rows(far, inputs.study),
    }


def _missing_visits(inputs: ReportInputs) -> Block:
    """Who was seen at the visits of the primary outcome, and the map of what the unseen could change."""
    group, grid, points = inputs.study.group, inputs.tipping_grid, inputs.tipping
    if group is None or inputs.seen is None or grid is None or points is None:
        return {}
    mine = inputs.seen[inputs.seen["outcome"] == group.primary.outcome]
    rows = [
        (session_name(inputs.study, row["session"]), row["arm"], f"{row['n_seen']} of {row['n_randomised']}")
        for row in mine.to_dict("records")
    ]
    unseen = grid[["unseen_active", "unseen_control"]].to_numpy(float).sum()
    drawn = grid["estimate"].notna().any() and unseen > 0
    caption = (
        "The primary answer when the unseen people of each arm differ from what their other visits predict. "
        "Here unseen values are filled in with their conditional means and standard errors come from leaving "
        "out one person at a time, so that the p value at the dot is close to that of REML but not the same."
    )
    figure = missing_figures.tipping_map(grid, points, inputs.study) if drawn else None
    shown = picture(figure, alt="Tipping points", caption=caption) if figure else None
    return {
        "tipping": shown,
        "tipping_words": missing_figures.sentences(grid, points, inputs.study),
        "seen_rows": rows,
    }


def _controls(inputs: ReportInputs) -> Block | None:
    table, draws = inputs.controls, inputs.draws
    if table is None or not table["p"].notna().any():
        return None
    known = table[table["p"].notna()]
    low = int((known["p"] < 0.05).sum())
    caption = (
        f"Left: {len(known)} questions that ought to find no difference between the arms, as normal scores "
        f"of their p values; {low} of them lie beyond 1.96, {0.05 * len(known):.1f} would by chance if they "
        "were independent, which they are not. Right: the statistic of the primary question (line) among "
        "those of other draws of the same allocation."
    )
    figure = firmness.negative_controls(known, draws)
    return picture(figure, alt="Negative controls", caption=caption, size="large")


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
        item = picture(figure, alt=f"Differences between arms, {name}", caption=caption, size="large")
        shown.append(item | {"open": primary, "title": f"Differences at {name}"})
    return shown


def _scales(inputs: ReportInputs) -> str:
    group = inputs.study.group
    if group is None:
        return ""
    units = inputs.study.outcome_units()
    used = dict.fromkeys(units[name] for name in group.modelled)
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
            shown.append(picture(figure, alt="Matrix of coupling differences", caption=caption, size="small"))
    return shown


def _truth(inputs: ReportInputs) -> Block:
    rows = results.truth_rows(inputs)
    shown, text = None, ""
    if rows:
        table = pd.DataFrame(rows)
        caption = (
            "Distance of each estimate from the planted truth (line), in posterior SDs; shaded: within 1.96."
        )
        shown = picture(trial.recovery(table), alt="Distance of estimates from the truth", caption=caption)
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
    columns = [str(name).replace("_", " ") for name in table.columns]
    return {"columns": columns, "rows": [[_short(cell) for cell in row] for row in table.to_numpy().tolist()]}


def _short(cell: object) -> str:
    """A cell as text: numbers with four digits, `–` when missing."""
    if cell is None or cell != cell:
        return "–"
    try:
        return f"{float(str(cell)):.4g}".replace("-", "−")
    except ValueError:
        return str(cell)
