"""`reconfmri group`: the group questions asked of any table of measures."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import pandas as pd

from reconfmri.bids import read_allocation
from reconfmri.config import DEFAULT_SCALES, Group, load_study
from reconfmri.exclusions import MISSING
from reconfmri.tables import write_table


def answer_table(options: Namespace) -> int:
    """Write `estimates.tsv` and `diagnostics.tsv` into OUT; return 0."""
    from reconfmri import group
    from reconfmri.measures import read_measures

    measures, allocation = read_measures(options.measures), read_allocation(options.allocation)
    settings, sessions, seed = questions(options, measures, allocation)
    if options.flat_priors:
        settings = settings.model_copy(update={"priors": settings.priors.model_copy(update={"flat": True})})
    estimates, diagnostics = group.answer(measures, allocation, settings, sessions, seed)
    options.out.mkdir(parents=True, exist_ok=True)
    write_table(options.out / "estimates.tsv", estimates, group.ESTIMATES)
    write_table(options.out / "diagnostics.tsv", diagnostics, group.DIAGNOSTICS)
    print(f"wrote {options.out / 'estimates.tsv'}: {len(estimates)} rows")
    return 0


def questions(
    options: Namespace, measures: pd.DataFrame, allocation: pd.DataFrame
) -> tuple[Group, list[str], int]:
    """Return the group section, the visits in order and the seed: of the study file, else everything there is.

    Raises
    ------
    ValueError
        The study file has no group section, or neither it nor --active and --control name the arms.
    """
    if options.config:
        study = load_study(options.config)
        if study.group is None:
            raise ValueError(f"E-CONF-C02 {options.config}: group is none. Mend: give a study file with arms")
        visits = [session.id for session in study.sessions] or [MISSING]
        return study.group, visits, study.seed if options.seed is None else options.seed
    if not (options.active and options.control):
        arms = sorted(set(allocation["arm"]))
        raise ValueError(
            f"Which arm is the drug? Give --active and --control, of {arms}, or --config STUDY.yaml"
        )
    for arm in (options.active, options.control):
        if arm not in set(allocation["arm"]):
            raise ValueError(
                f"E-CONF-C04 {options.allocation}: nobody is in the arm {arm!r}; "
                f"Mend: the arms are {sorted(set(allocation['arm']))}"
            )
    sessions = list(dict.fromkeys(measures["session_id"].fillna(MISSING)))
    return everything(measures, sessions, options), sessions, 1 if options.seed is None else options.seed


def everything(measures: pd.DataFrame, sessions: list[str], options: Namespace) -> Group:
    """A group section that asks for every outcome of the table; the first outcome at the second visit leads."""
    outcomes = list(dict.fromkeys(measures.loc[measures["domain"] != "quality", "outcome"]))
    if not outcomes:
        raise ValueError(
            f"{options.measures}: no outcome outside the domain quality. Mend: give a table of measures"
        )
    later = len(sessions) > 1
    raw: dict[str, Any] = {
        "arms": {"active": options.active, "control": options.control},
        "outcomes": outcomes,
        "estimands": ["difference_adjusted", "difference_unadjusted", "difference_of_change"]
        if later
        else ["difference_unadjusted"],
        "primary": {
            "outcome": outcomes[0],
            "session": sessions[1] if later else sessions[0].replace(MISSING, "1"),
            "estimand": "difference_adjusted" if later else "difference_unadjusted",
        },
        "scales": {**spreads(measures), **DEFAULT_SCALES},
    }
    return Group.from_params(raw)


def spreads(measures: pd.DataFrame) -> dict[str, float]:
    """Unit -> SD of the first visit's values over both arms, to anchor the priors of unknown units."""
    first = measures[measures["session_id"].fillna(MISSING) == measures["session_id"].fillna(MISSING).iloc[0]]
    by_unit = first.groupby("unit")["value"].std()
    return {str(unit): float(sd) for unit, sd in by_unit.items() if sd > 0}
