"""Sections that compare the arms: people, courses, differences, sensitivity, missing visits, estimates.

They take what was asked (`Trial`) and the tables of the group model, whoever made the measures.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from reconfmri.config import Trial
from reconfmri.contracts import questions
from reconfmri.figures import missing as missing_figures
from reconfmri.figures import predictive, sensitivity
from reconfmri.figures import trial as trial_figures
from reconfmri.figures.labels import (
    declared_label,
    estimand_label,
    half_width,
    number,
    number_with_ends,
    session_name,
)
from reconfmri.report import results
from reconfmri.report.associations import associations
from reconfmri.report.blocks import Block, picture, several
from reconfmri.report.comparisons import View, views
from reconfmri.report.inputs import Compared
from reconfmri.report.responders import responders
from reconfmri.report.words import list_of


def arms(trial: Trial | None, compared: Compared) -> Block:
    """Return everything that compares the arms; nothing where there are none."""
    estimates = compared.tables.get("estimates")
    if trial is None or estimates is None:
        return {}
    seen = views(trial, compared)
    return {
        **_people(trial, compared.tables.get("visits_seen")),
        "trajectories": _trajectories(trial, compared),
        "forests": [item for view in seen for item in _forests(view, first=view is seen[0])],
        "estimate_groups": [
            item
            for view in seen
            for item in results.estimate_groups(
                view.compared.tables["estimates"], view.trial, view.suffix, first=view is seen[0]
            )
        ],
        "estimand_titles": [estimand_label(name, trial.group) for name in trial.group.estimands],
        "diagnostics": _plain_table(compared.tables.get("bayesian_diagnostics")),
        "convergence": _convergence(trial, compared.tables.get("bayesian_diagnostics")),
        **_predictions(trial, compared.tables.get("predictions")),
        **_sensitivity(compared.tables.get("sensitivity")),
        "joint": results.joint_rows(trial, compared),
        "pooled": results.pooled_rows(trial, compared),
        "calibration": results.calibration_rows(compared.tables.get("calibration")),
        "moderation": results.moderation_rows(trial, compared.tables.get("moderation")),
        **responders(trial, compared.tables),
        **associations(trial, compared.tables),
        "controls": _controls(compared),
        **_missing_visits(trial, compared),
        **_reliability(trial, compared.tables.get("reliability")),
        **_truth(seen[0].trial, seen[0].compared),
        "plain": _plain_sections(compared.tables),
    }


def _people(trial: Trial, seen: pd.DataFrame | None) -> Block:
    """Who was measured: a row per outcome, a column per visit, active + control of those randomised."""
    if seen is None:
        return {"people_rows": []}
    arms = trial.group.arms
    cells = {(row["outcome"], row["session"], row["arm"]): row["n_seen"] for row in seen.to_dict("records")}
    randomised = seen.drop_duplicates("arm").set_index("arm")["n_randomised"]
    rows = [
        (
            declared_label(name, trial.group),
            [
                " + ".join(f"{cells[name, session, arm]:.0f}" for arm in arms.shown)
                for session in trial.session_names
            ],
        )
        for name in dict.fromkeys(seen["outcome"])
    ]
    return {
        "people_columns": list(trial.session_names.values()),
        "people_rows": rows,
        "people_note": f"People with a measurement, {' + '.join(arms.shown)}; randomised were "
        f"{' + '.join(f'{randomised[arm]:.0f}' for arm in arms.shown)}.",
    }


def _trajectories(trial: Trial, compared: Compared) -> Block | None:
    group = trial.group
    if compared.allocation is None or not trial.session_names:
        return None
    arms = compared.allocation[["participant_id", "arm"]]
    table = compared.measures.merge(arms, on="participant_id", how="inner", validate="many_to_one")
    table = table[table["outcome"].isin(group.modelled) & table["value"].notna()]
    if not len(table):
        return None
    caption = (
        f"Means of the values that were observed, with {100 * group.level:g} % intervals of the mean; faint "
        "lines are participants. These are the data, not the models' estimates."
    )
    outcomes = "; ".join(declared_label(name, group) for name in dict.fromkeys(table["outcome"]))
    alt = f"Every outcome over sessions. Mean and interval by arm of: {outcomes}"
    return picture(trial_figures.trajectories(table, trial), alt=alt, caption=caption, size="large")


def _convergence(trial: Trial, diagnostics: pd.DataFrame | None) -> str:
    """How many Bayesian fits passed the gate, in one sentence."""
    if diagnostics is None or "converged" not in diagnostics or not len(diagnostics):
        return ""
    fits = diagnostics.drop_duplicates(["outcome", "model"])
    passed = int(fits["converged"].sum())
    gate = trial.group.sampling
    told = (
        f"{passed} of {several(len(fits), 'Bayesian fit')} passed the gate: R-hat at most "
        f"{gate.max_r_hat:g}, effective sample size at least {gate.min_ess:g}, at most "
        f"{several(gate.max_divergences, 'divergent transition')}."
    )
    return told + (" The others are withheld." if passed < len(fits) else "")


def _sensitivity(table: pd.DataFrame | None) -> Block:
    """The primary question under other choices, or why there is no answer under any."""
    if table is None or not len(table):
        return {"sensitivity": None, "sensitivity_note": ""}
    if not table["estimate"].notna().any():
        why = "; ".join(dict.fromkeys(table.loc[table["kind"] == "declared", "status"]))
        return {"sensitivity": None, "sensitivity_note": f"The primary question: {why}."}
    people = table[(table["kind"] == "influence") & (table["method"] == "reml") & table["estimate"].notna()]
    caption = (
        "The primary question under other priors and other covariances over visits, and without each of "
        f"{several(len(people), 'participant')} in turn (shown: those who change the estimate most)."
    )
    if len(people):
        width = half_width(people.iloc[0].to_dict())
        lowest, highest = (number(end, width=width) for end in people["estimate"].agg(["min", "max"]))
        caption += f" Without one of them the REML estimate lies between {lowest} and {highest}."
    silent = table[table["estimate"].isna() & (table["kind"] != "influence")]
    reasons = [f"{row['analysis']} ({row['status']})" for row in silent.to_dict("records")]
    if reasons:
        caption += f" Not shown: {'; '.join(dict.fromkeys(reasons))}."
    alt = f"The primary estimate under other choices. {len(table)} analyses as marks with their intervals"
    return {
        "sensitivity": picture(sensitivity.alternatives(table), alt=alt, caption=caption),
        "sensitivity_note": "",
    }


def _predictions(trial: Trial, table: pd.DataFrame | None) -> Block:
    """What the priors allow, what the model replicates, and every statistic that it does not."""
    empty: Block = {"prior_reach": None, "replicates": None, "unlike": []}
    if table is None or not table["reported"].any():
        return empty
    known = table[(table["check"] == "posterior") & table["reported"]]
    far = known[(known["p"] < 0.025) | (known["p"] > 0.975)]
    allowed = (
        "Black: lowest to highest observed value of an outcome. Thick grey: lowest to highest value of a "
        "typical trial of this size made by the priors alone; thin grey: what they still allow. Purple: the "
        "ends of a clinical scale. If grey is much wider than black, the prior is weak."
    )
    made = (
        "The primary outcome: observed statistics beside 95 % of 500 trials that the model makes, with "
        f"the same people and missed visits. Over all outcomes {len(far)} of {len(known)} statistics lie "
        "outside their 95 % (posterior predictive p below 0.025 or above 0.975)."
    )
    shown = empty | {"unlike": results.unlike_rows(far, trial)}
    if ((table["check"] == "prior") & table["reported"]).any():
        reach = predictive.prior_reach(table, trial)
        shown["prior_reach"] = picture(
            reach, alt="What the priors allow. Range per outcome beside the values observed", caption=allowed
        )
    if (known["outcome"] == trial.group.primary.outcome).any():
        replicated = predictive.replicates(known, trial)
        shown["replicates"] = picture(
            replicated,
            alt="Replicated trials. Observed statistics beside 95 % of those of the model",
            caption=made,
            size="large",
        )
    return shown


def _missing_visits(trial: Trial, compared: Compared) -> Block:
    """The map of what the unseen could change of the primary estimate, or words where there is none."""
    return {
        "unseen_rows": results.unseen_rows(compared.tables.get("reference_based")),
        **_tipping(trial, compared),
    }


def _tipping(trial: Trial, compared: Compared) -> Block:
    grid, points = compared.tables.get("tipping_grid"), compared.tables.get("tipping")
    if grid is None or points is None:
        return {"tipping": None, "tipping_words": []}
    if trial.group.arms.several:
        words = (
            "What the unseen could change (values by reference, tipping points) is worked out for two arms; "
            f"of these {len(trial.group.arms.labels)} it is not reported."
        )
        return {"tipping": None, "tipping_words": [words]}
    answered = bool(grid["estimate"].notna().any())
    if answered and not grid[["unseen_active", "unseen_control"]].to_numpy(float).any():
        words = "Everybody was seen at the primary visit: no absence could change the primary estimate."
        return {"tipping": None, "tipping_words": [words]}
    caption = (
        "The primary estimate when the unseen people of each arm differ from what their other visits "
        "predict. Here unseen values are filled in with their conditional means and standard errors come "
        "from leaving out one person at a time, so that the p value at the dot is close to that of REML but "
        "not the same."
    )
    figure = missing_figures.tipping_map(grid, points, trial) if answered else None
    return {
        "tipping": picture(
            figure,
            alt="Tipping points. Map of the primary estimate over shifts of the unseen",
            caption=caption,
        )
        if figure
        else None,
        "tipping_words": missing_figures.sentences(grid, points, trial),
    }


def _reliability(trial: Trial, table: pd.DataFrame | None) -> Block:
    """Intraclass correlations of every outcome within each arm, and why some have none."""
    rows, shown = results.reliability_rows(table), None
    if rows and table is not None:
        caption = (
            f"ICC(2,1) of each outcome within each arm, with {100 * trial.group.level:g} % intervals. One: "
            "people differ, and a person's visits agree."
        )
        alt = "Reliability of every outcome, by arm. ICC(2,1) with its interval"
        shown = picture(sensitivity.reliability(table, trial), alt=alt, caption=caption)
    return {
        "reliability": shown,
        "reliability_rows": rows,
        "reliability_note": results.reliability_note(table),
    }


def _controls(compared: Compared) -> Block | None:
    table, draws = compared.tables.get("controls"), compared.tables.get("randomisation_draws")
    if table is None or not table["p"].notna().any():
        return None
    known = table[table["p"].notna()]
    low = int((known["p"] < 0.05).sum())
    caption = (
        f"{several(len(known), 'question')} that ought to find no difference between the arms, as normal "
        f"scores of their p values; {low} of them lie beyond 1.96, {0.05 * len(known):.1f} would by chance "
        "if they were independent, which they are not."
    )
    if draws is not None and len(draws):
        caption += (
            " Right: the statistic of the primary question (line) among those of other draws of the same "
            "allocation."
        )
    figure = sensitivity.negative_controls(known, draws)
    alt = f"Negative controls. {low} of {len(known)} p values are below 0.05"
    return picture(figure, alt=alt, caption=caption, size="large")


def _forests(view: View, *, first: bool) -> list[Block]:
    trial, compared = view.trial, view.compared
    group, estimates = trial.group, compared.tables["estimates"]
    shown = _side_by_side(view, first=first)
    for session in results.sessions_of(estimates, trial):
        truth = results.truth_by_estimand(trial, compared, session)
        figure = trial_figures.forest(estimates, trial, session=session, truth=truth)
        name = session_name(trial, session)
        caption = (
            f"{view.start}At {name}: marks and {100 * group.level:g} % intervals; one unit of the axis is "
            f"the unit's typical spread between people ({_scales(trial)}). Numbers are Bayesian, in the "
            "outcome's own unit; bold is the primary outcome."
        )
        primary = first and session == group.primary.session
        alt = _forest_alt(estimates, trial, session, f"{name}{view.suffix}")
        item = picture(figure, alt=alt, caption=caption, size="large")
        shown.append(item | {"open": primary, "title": f"Differences at {name}{view.suffix}"})
    return shown


def _forest_alt(estimates: pd.DataFrame, trial: Trial, session: str, name: str) -> str:
    """What the figure shows in words: the Bayesian estimates of the primary estimand, outcome by outcome."""
    here = (estimates["session"] == session) & (estimates["method"] == "bayes") & estimates["reported"]
    rows = estimates[here & (estimates["estimand"] == trial.group.primary.estimand)].to_dict("records")
    said = [
        f"{declared_label(row['outcome'], trial.group)} {number_with_ends(row)} {row['unit']}" for row in rows
    ]
    return f"Differences between arms, {name}. {'; '.join(said) or 'None is reported'}"


def _side_by_side(view: View, *, first: bool) -> list[Block]:
    """Brain, body and symptoms on one axis, where the study asks about more than one of them."""
    trial, estimates = view.trial, view.compared.tables["estimates"]
    kinds = list(trial_figures.kinds_of(estimates, trial))
    if len(kinds) < 2:
        return []
    primary, level = trial.group.primary, trial.group.level
    name = f"{session_name(trial, primary.session)}{view.suffix}"
    title = f"{list_of(kinds).capitalize()} at {name}"
    caption = (
        f"{view.start}{title}: {estimand_label(primary.estimand)} of every outcome, marks and "
        f"{100 * level:g} % intervals; one unit of the axis is the unit's typical spread between people "
        f"({_scales(trial)}), so that lengths can be compared. Numbers are Bayesian, in the outcome's own "
        "unit; bold is the primary outcome."
    )
    alt = _forest_alt(estimates, trial, primary.session, title)
    figure = trial_figures.side_by_side(estimates, trial)
    return [picture(figure, alt=alt, caption=caption, size="large") | {"open": first, "title": title}]


def _scales(trial: Trial) -> str:
    used = dict.fromkeys(trial.units[name] for name in trial.group.modelled)
    return ", ".join(f"{trial.group.scales[unit]:g} {unit}" for unit in used)


def _truth(trial: Trial, compared: Compared) -> Block:
    rows = results.truth_rows(trial, compared)
    shown, text = None, ""
    if rows:
        table = pd.DataFrame(rows)
        caption = (
            "Distance of each estimate from the planted truth (line), in posterior SDs; shaded: within 1.96."
        )
        figure = trial_figures.recovery(table)
        shown = picture(figure, alt="Distance of estimates from the truth", caption=caption)
        factors = (compared.truth or {}).get("recovery", {})
        named = [f"{name.replace('_', ' ')} {float(value):.2f}" for name, value in factors.items()]
        text = (
            f"Share of a planted source that is left after sampling and averaging: {', '.join(named)}."
            if named
            else ""
        )
    return {"truth_rows": rows, "recovery": shown, "recovery_coefficients": text}


def _plain_sections(tables: Mapping[str, pd.DataFrame]) -> list[Block]:
    """The sections of questions that are shown as plain tables, of which there is one at least."""
    shown = []
    for question in questions.registered():
        section = question.section
        if section is None or not section.title:
            continue
        blocks = []
        for name, spec in question.tables.items():
            if table := _plain_table(tables.get(name)):
                titles = [column.description for column in spec.among(tables[name]).columns]
                blocks.append(table | {"titles": titles})
        if blocks:
            intro = section.introduction
            shown.append({"id": section.id, "title": section.title, "intro": intro, "tables": blocks})
    return shown


def _plain_table(table: pd.DataFrame | None) -> Block | None:
    if table is None or not len(table):
        return None
    columns = [str(name).replace("_", " ") for name in table.columns]
    return {"columns": columns, "rows": [[_short(cell) for cell in row] for row in table.to_numpy().tolist()]}


def _short(cell: object) -> str:
    """A cell as text: numbers with four digits, `–` when missing."""
    if cell is None or cell != cell:
        return "–"
    if isinstance(cell, bool):
        return str(cell).lower()
    try:
        return f"{float(str(cell)):.4g}".replace("-", "−")
    except ValueError:
        return str(cell)
