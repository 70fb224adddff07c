"""`reconfmri group`: the group questions asked of any table of measures."""

from __future__ import annotations

from argparse import Namespace

import pandas as pd

from reconfmri.bids import read_allocation
from reconfmri.config import Group, load_study
from reconfmri.tables import write_table


def answer_table(options: Namespace) -> int:
    """Write `estimates.tsv` and `diagnostics.tsv` into OUT; return 0."""
    from reconfmri import group
    from reconfmri.measures import read_measures

    measures, allocation = read_measures(options.measures), read_allocation(options.allocation)
    settings, sessions, seed = questions(options, measures, allocation)
    allocation = read_allocation(options.allocation, options.participants, settings.participant_columns)
    estimates, diagnostics = group.answer(measures, allocation, settings, sessions, seed)
    options.out.mkdir(parents=True, exist_ok=True)
    write_table(options.out / "estimates.tsv", estimates, group.DESCRIPTIONS)
    write_table(options.out / "diagnostics.tsv", diagnostics, group.DIAGNOSTICS)
    for line in group.unanswered(estimates):
        print(line)
    print(f"wrote {options.out / 'estimates.tsv'}: {len(estimates)} rows")
    return 0


def questions(
    options: Namespace, measures: pd.DataFrame, allocation: pd.DataFrame
) -> tuple[Group, list[str], int]:
    """Return the group section, the visits in order and the seed: of the study file, else all there is.

    Raises
    ------
    ValueError
        The study file has no group section, or neither it nor --active and --control name the arms.
    """
    if options.config:
        study = load_study(options.config)
        if study.group is None:
            raise ValueError(f"E-CONF-C02 {options.config}: group is none. Mend: give a study file with arms")
        settings, sessions, seed = study.group, [session.id for session in study.sessions], study.seed
    else:
        settings, sessions = from_tables(options, measures, allocation)
        seed = 1
    if options.flat_priors:
        settings = settings.model_copy(update={"priors": settings.priors.model_copy(update={"flat": True})})
    return settings, sessions, seed if options.seed is None else options.seed


def from_tables(
    options: Namespace, measures: pd.DataFrame, allocation: pd.DataFrame
) -> tuple[Group, list[str]]:
    """Every outcome and visit of the tables, between the arms of --active and --control."""
    from reconfmri.group import group_from_tables

    arms = sorted(set(allocation["arm"]))
    if not (options.active and options.control):
        raise ValueError(f"Which arm is the drug? Give --active and --control ({arms}), or --config FILE")
    for arm in (options.active, options.control):
        if arm not in arms:
            where = options.allocation
            raise ValueError(f"E-CONF-C04 {where}: nobody is in the arm {arm!r}. Mend: the arms are {arms}")
    return group_from_tables(
        measures, allocation, active=options.active, control=options.control, baseline=options.baseline
    )
