"""The sharing pack: what others need to answer the group questions, by an allow-list, under salted codes."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd
import yaml

from reconfmri import __version__
from reconfmri.config import Group, Study
from reconfmri.contracts.files import of_study
from reconfmri.files import InputError
from reconfmri.measures import DESCRIPTIONS, read_measures
from reconfmri.provenance import hash_of_package
from reconfmri.tables import MISSING, number_of, read_table, write_table
from reconfmri.trial.allocation import read_allocation
from reconfmri.trial.codes import as_seen, by_code, codes_file, is_coded
from reconfmri.trial.lock import LOCKS
from reconfmri.trial.log import CODE, LOCK, read_log

OLDEST, BIN, FEWEST = 89, 5, 5  # years, years, people
LEFT_OUT = ("allocation", "intercurrent_events")  # paths of the study folder, tables with words about people
FILES = {
    "measures.tsv": "values of the outcomes that the study asks about and of the quality of the scans",
    "measures.json": "its columns",
    "allocation.tsv": "arm and stratum of everybody randomised; strata have neutral names",
    "allocation.json": "its columns",
    "participants.tsv": f"covariates: ages in steps of {BIN} years, {OLDEST} and older together, categories "
    f"of fewer than {FEWEST} people as `other`; none without covariates",
    "participants.json": "its columns",
    "study.yaml": "the question: visits, arms, outcomes, models, priors",
    "lock.json": "what was decided before unblinding; none without a lock",
    "README.md": "this page",
}
ALLOCATION = {
    "participant_id": "Code of the participant; nothing in the pack leads from it to a name or an id",
    "arm": "Arm as randomised; A and B while the study is blinded",
    "stratum": "Stratum of the randomisation, by a neutral name; n/a without strata",
}


def share(folder: Path, study: Study, out: Path) -> list[Path]:
    """Write the pack of a finished study into a new folder and return its files.

    Raises
    ------
    ValueError
        The folder is not empty, the study has no arms, no measures yet, or two people get one code.
    """
    if study.group is None:
        raise InputError(
            "group", "is none, so there is no question to share", fix="give it arms", code="E-CONF-C02"
        )
    if out.exists() and any(out.iterdir()):
        raise InputError(out, "is not empty", fix="give a new folder", code="E-CONF-C07")
    seen = as_seen(study, folder)
    measures = read_measures(folder / of_study("stack_measures", "measures"))
    allocation = read_allocation(folder / study.group.allocation)
    if is_coded(seen.group):
        allocation = by_code(allocation, codes_file(folder / study.group.allocation))
    code_of = coder(
        folder / study.group.allocation, {*measures["participant_id"], *allocation["participant_id"]}
    )
    out.mkdir(parents=True, exist_ok=True)
    group = seen.group or study.group
    write_table(out / "measures.tsv", _measures(measures, allocation, group, code_of), DESCRIPTIONS)
    write_table(out / "allocation.tsv", _allocation(allocation, code_of), ALLOCATION)
    _write_participants(folder / study.bids / "participants.tsv", out, group, allocation, code_of)
    (out / "study.yaml").write_text(_study_file(seen, group), encoding="utf-8")
    _copy_lock(folder, out)
    (out / "README.md").write_text(_readme(seen, out), encoding="utf-8")
    return sorted(out.iterdir())


def coder(allocation: Path, people: Iterable[str]) -> Callable[[str], str]:
    """Return person -> code, by a salt that is drawn once and lies beside the allocation.

    Raises
    ------
    ValueError
        Two people get one code.
    """
    path = allocation.with_suffix(".salt")
    if not path.is_file():
        path.write_text(secrets.token_hex(32) + "\n", encoding="utf-8")
        path.chmod(0o600)
    salt = path.read_text(encoding="utf-8").strip().encode()
    codes = {who: f"sub-{hmac.new(salt, who.encode(), hashlib.sha256).hexdigest()[:10]}" for who in people}
    if len(set(codes.values())) < len(codes):
        raise InputError(path, "two people get one code", fix="delete it: another is drawn", code=CODE)
    return codes.__getitem__


def _measures(
    measures: pd.DataFrame, allocation: pd.DataFrame, group: Group, code_of: Callable[[str], str]
) -> pd.DataFrame:
    """The outcomes that the study asks about, of everybody randomised, in the order of their codes."""
    asked = {*group.modelled, *group.controls, *(item.measure for item in group.covariates.values())}
    asked |= {rule.outcome for rule in group.responders.values()}
    kept = measures["outcome"].isin(asked) | (measures["domain"] == "quality")
    rows = measures[kept & measures["participant_id"].isin(allocation["participant_id"])]
    rows = rows.assign(participant_id=rows["participant_id"].map(code_of))[list(DESCRIPTIONS)]
    return rows.sort_values(["participant_id", "session_id", "domain", "outcome"], ignore_index=True)


def _allocation(allocation: pd.DataFrame, code_of: Callable[[str], str]) -> pd.DataFrame:
    rows = allocation.assign(participant_id=allocation["participant_id"].map(code_of))
    rows = rows.sort_values("participant_id", ignore_index=True)
    named = {label: f"stratum{place}" for place, label in enumerate(dict.fromkeys(rows["stratum"]), start=1)}
    strata = rows["stratum"].map(named | {MISSING: MISSING})
    return rows.assign(stratum=strata)[list(ALLOCATION)]


def _write_participants(
    path: Path, out: Path, group: Group, allocation: pd.DataFrame, code_of: Callable[[str], str]
) -> None:
    """Write the covariates of the models, coarse enough that nobody is known by them; nothing without any."""
    covariates = {item.column: item.kind for item in group.covariates.values() if item.column}
    if not covariates:
        return
    table = read_table(path, required=["participant_id", *covariates])
    table = table[table["participant_id"].isin(allocation["participant_id"])]
    found = pd.DataFrame({"participant_id": table["participant_id"].map(code_of)})
    described = {"participant_id": ALLOCATION["participant_id"]}
    for column, kind in covariates.items():
        is_age = "age" in column.lower().split("_")
        found[column] = table[column].map(binned_age) if is_age else table[column]
        described[column] = f"Covariate; in steps of {BIN} years" if is_age else "Covariate"
        if kind == "category":
            counts = table[column].value_counts()
            rare = counts.index[counts < FEWEST]
            found[column] = table[column].where(~table[column].isin(rare), "other")
            described[column] = f"Covariate; categories of fewer than {FEWEST} people are `other`"
    found = found.sort_values("participant_id", ignore_index=True)
    write_table(out / "participants.tsv", found, described)


def binned_age(cell: object) -> str | None:
    """Return the middle of the five years that an age lies in; from 89 on they are one."""
    if cell is None or cell != cell:
        return None
    years = number_of(cell)
    return str(OLDEST) if years >= OLDEST else f"{years // BIN * BIN + BIN / 2:g}"


def _study_file(study: Study, group: Group) -> str:
    """The question alone, as `reconfmri group --config` reads it: no path, and arms as they may be seen."""
    asked = group.model_dump(mode="json", exclude=set(LEFT_OUT)) | {"blinding": "open"}
    trunk = {name: value for name, value in study.model_dump(mode="json").items() if name in TRUNK}
    return str(yaml.safe_dump(trunk | {"group": asked}, sort_keys=False, allow_unicode=True))


TRUNK = ("name", "question", "seed", "sessions")


def _copy_lock(folder: Path, out: Path) -> None:
    locks = [entry for entry in read_log(folder) if entry.event == LOCK]
    if locks:
        shutil.copyfile(folder / LOCKS / f"{locks[-1].facts['sha256'][:12]}.json", out / "lock.json")


def _readme(study: Study, out: Path) -> str:
    written = {path.name for path in out.iterdir()} | {"README.md"}
    listed = "\n".join(f"| {name} | {what} |" for name, what in FILES.items() if name in written)
    people = " --participants participants.tsv" if "participants.tsv" in written else ""
    return f"""# {study.name}

Made by `reconfmri share`, version {__version__}, code {hash_of_package()}.
Participants have codes; the salt that leads to them is not here.

| file | holds |
|---|---|
{listed}

`reconfmri group measures.tsv allocation.tsv OUT --config study.yaml{people}` makes
the page of answers from it. It differs from the study's own where numbers are drawn in the order of people
(randomisation test, sampler: within their Monte Carlo error), where a covariate was made coarser, and where
people had intercurrent events, which are not shared.
"""
