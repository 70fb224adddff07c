"""`reconfmri interim`: what was observed so far, pooled over the arms or by code."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import yaml

from reconfmri.config import CONFIG, Group, Study, load_study
from reconfmri.contracts.files import of_study
from reconfmri.files import InputError
from reconfmri.trial.adverse_events import read_adverse_events
from reconfmri.trial.codes import CODE, as_seen, codes_file, is_coded

RUNS = "config/runs.tsv"
MEASURES, PARITY = of_study("stack_measures", "measures"), of_study("audit_sessions", "parity")
EXCLUSIONS = of_study("stack_exclusions", "exclusions")


def interim(options: Namespace) -> int:
    """Write the interim report of a study into OUT; return 0.

    Raises
    ------
    ValueError
        The study has no arms, no measures yet, or is asked for by code and has none.
    """
    from reconfmri.report import ReportFiles, compose_interim, gather

    folder = options.study
    study = load_study(folder / CONFIG)
    if (group := study.group) is None:
        raise InputError(CONFIG, "the study has no arms", fix="give it a section `group`", code="E-CONF-C02")
    if not (folder / MEASURES).is_file():
        fix = "run the workflow to there: `reconfmri run BIDS OUT participant`"
        raise InputError(MEASURES, "is not there yet", fix=fix, code="E-CONF-C05")
    bids = folder / study.bids
    files = ReportFiles(
        config=folder / CONFIG,
        runs=folder / RUNS,
        measures=folder / MEASURES,
        exclusions=folder / EXCLUSIONS,
        parity=_there(folder / PARITY),
        participants=_there(bids / "participants.tsv"),
        record=_there(folder / "config/index.json"),
    )
    if options.by_code:
        allocation = _coded_arms(folder, study, group)
        files = replace(files, allocation=allocation, codes=codes_file(allocation))
    inputs = gather(files)
    if not options.by_code:
        pooled = inputs.study.model_copy(update={"group": None})
        text = yaml.safe_dump(pooled.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        inputs = replace(inputs, study=pooled, config_text=text)
    table = bids / "phenotype/adverse_events.tsv"
    events = read_adverse_events(table) if table.is_file() else None
    watched = [name for names in group.safety.values() for name in names]
    page = compose_interim(inputs, list(dict.fromkeys([*group.modelled, *watched])), events)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(page, encoding="utf-8")
    print(f"wrote {options.out}: {'arms by code' if options.by_code else 'pooled over the arms'}")
    return 0


def _there(path: Path) -> Path | None:
    return path if path.is_file() else None


def _coded_arms(folder: Path, study: Study, group: Group) -> Path:
    """The allocation of a study whose arms have codes still."""
    if not is_coded(as_seen(study, folder).group):
        what = "the arms of this study are seen by name" + (" since it was unblinded" * is_coded(group))
        raise InputError(CONFIG, what, fix="leave out --by-code, or read results/report.html", code=CODE)
    return folder / group.allocation
