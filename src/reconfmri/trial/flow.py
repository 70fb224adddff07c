"""The flow of participants: people and scans at every station, by arm, with one coded reason for each loss.

CONSORT 2025 (Hopewell et al., Lancet 2025;405:1633) asks for the people; a trial with scans loses visits and
scans as well, so that the counts go on by visit, task and outcome down to the n of the models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pandas as pd

from reconfmri.bids import BidsFile, parsed
from reconfmri.config import Arms, Study
from reconfmri.contracts.specs import TableSpec, integer, text
from reconfmri.decisions import RATED_OUT
from reconfmri.exclusions import MISSING, UNIT, Exclusion
from reconfmri.trial.adverse_events import NO, YES

EVERYONE = "all participants"
SCALES, COMPARISON = "score_scale", "compare_arms"
# Steps that decide on one signal or scale only, and what they take out: the scan itself stays in the study.
SIGNAL_STAGES = {
    "score_skin_conductance": "skin conductance",
    "score_physiology": "physiology",
    "estimate_connectivity": "connectivity",
    "estimate_maps": "maps",
    "compare_maps": "maps",
    SCALES: "scale",
    COMPARISON: "comparison of arms",
}
QUALITY_STAGES = ("assess_quality", "compare_sessions")  # rows that a person decided count as quality too
OF_IMAGES = ("activation", "connectivity", "quality")  # producers that need the scan itself
OTHER_ARM, NOT_RANDOMISED, NOT_TREATED = "E-STAT-C05", "E-STAT-C06", "W-STAT-C07"
MISSED, NO_FOLDER, NO_IMAGE, UNKNOWN = "W-BIDS-A07", "W-BIDS-A02", "E-BIDS-A15", "W-STAT-C08"
STAGES = {
    "screened": "everybody in participants.tsv, the allocation or the run table",
    "randomised": "with an arm in the allocation",
    "treated": "`treated` is yes in the allocation; nobody is lost to the analysis by it",
    "expected": "randomised to an arm that is compared, at this visit",
    "acquired": "a scan of the task is in the dataset",
    "readable": "a scan could be read and preprocessed",
    "passed": "a scan kept by every threshold of quality and by hand",
    "modelled": "a value of the outcome at this visit: n of bayes, reml and randomisation",
    "paired": "and one at baseline: n of ancova, paired_t and of welch on change",
}
FLOW = TableSpec(
    (
        text("arm", "Arm as randomised (its code while the study is blinded); `all`: before randomisation"),
        text("session", "BIDS session label, without ses-; missing before the visits"),
        text("task", "BIDS task label; missing where no scan is meant"),
        text("outcome", "Outcome of the models; missing before them"),
        text(
            "stage",
            "Station: " + "; ".join(f"{name}: {what}" for name, what in STAGES.items()),
        ),
        integer("people", "People who reached the station; where a code is given, who were lost there"),
        integer("scans", "Scans of these people that did; missing where no scan is meant"),
        text("code", "Why they were lost (docs/codes.md, or the code of a decision by hand); else missing"),
        text("reason", "The code in words; missing without one"),
    ),
    "People and scans from screening to the models, with a reason for each loss",
)
WORDS = {
    OTHER_ARM: "in an arm that is not compared",
    NOT_RANDOMISED: "not randomised (screen failure, pilot)",
    RATED_OUT: "excluded by raters",
    NOT_TREATED: "did not receive the allocated treatment",
    MISSED: "no scan at this visit",
    NO_FOLDER: "no scan in the dataset",
    NO_IMAGE: "the image is absent or not readable",
    UNKNOWN: "no reason is recorded",
    "E-BIDS-A05": "two images claim one scan",
    "E-BIDS-A08": "too few runs in the session",
    "E-BIDS-A09": "no repetition time",
    "E-BIDS-A11": "malformed file beside the scan",
    "E-BIDS-A14": "no T1w image",
    "E-BIDS-A21": "fMRIPrep's outputs are missing",
    "E-BIDS-A22": "fMRIPrep's outputs are ambiguous",
    "E-BIDS-A23": "outputs of an old fMRIPrep",
    "E-BIDS-A25": "several echoes",
    "E-BIDS-A30": "one image under two names",
    "E-BIDS-B01": "unreadable header",
    "E-BIDS-B02": "header and sidecar disagree on the TR",
    "E-BIDS-B05": "cut short",
    "E-BIDS-B14": "no events",
    "E-DATA-B01": "damaged image",
    "E-DATA-B03": "damaged volumes",
    "E-DATA-B04": "flat image, or too little temporal SNR",
    "E-DATA-B05": "too few volumes",
    "E-DATA-B06": "grids differ",
    "E-DATA-B07": "no valid position in space",
    "E-DATA-B08": "region not covered",
    "E-DATA-B09": "region without signal",
    "E-DATA-B11": "confounds do not fit",
    "E-DATA-B12": "head motion",
    "E-DATA-B13": "wrong onsets",
    "E-DATA-B14": "no usable events",
    "E-DATA-B15": "unusable recording",
    "E-DATA-B16": "scale not answered or not scored",
    "E-DATA-B21": "EPI not placed in the T1w",
    "E-DATA-B22": "T1w not brought to the template",
    "E-DATA-B23": "implausible brain volume",
    "E-DATA-B24": "slice times do not fit",
    "E-DATA-B25": "phase encoding not known",
    "E-DATA-B26": "field map incomplete",
    "E-DATA-B27": "T1w images of two heads",
    "E-DATA-B30": "image changed since the index",
    "E-DATA-B31": "EPI does not fit the T1w",
    "E-DATA-B32": "ghost",
    "E-DATA-B33": "unsteady start",
    "E-DATA-B34": "brain mask lost volume",
    "E-DATA-B35": "region with too little temporal SNR",
    "E-DATA-B37": "head not found",
    "E-DATA-B38": "volumes are copies",
    "E-DATA-B39": "dead slices",
    "E-DATA-B40": "clipped values",
    "E-DATA-B41": "left and right swapped",
    "E-DATA-B42": "another person's run",
    "E-STAT-E01": "design linearly dependent",
    "E-STAT-E02": "contrast not estimable",
    "E-STAT-E03": "too few observations",
    "E-STAT-E04": "conditions overlap",
    "E-STAT-E11": "map not readable or on another grid",
    "E-STAT-E12": "map empty or covering too little",
    "E-STAT-E13": "a correlation of one",
}
Key = tuple[str, str, str, str]


@dataclass(frozen=True, kw_only=True)
class Records:
    """What the flow is counted from: tables of a finished study.

    `runs`: the run table before decisions by hand; `allocation`: rows with an arm; `screened`: everybody
    known beside them; `images`: units (participant, session, task, run) of the dataset's functional images,
    None where nothing lists them.
    """

    study: Study
    runs: pd.DataFrame
    exclusions: Sequence[Exclusion]
    measures: pd.DataFrame
    allocation: pd.DataFrame | None
    screened: Collection[str] = ()
    images: Collection[Key] | None = None

    @cached_property
    def units(self) -> list[Exclusion]:
        """Every scan that was acquired: of the run table, and taken out of it or kept from it by a row."""
        rows = self.runs[[*UNIT]].astype(object).where(self.runs[[*UNIT]].notna(), MISSING)
        found = {Exclusion(*map(str, row)).unit: None for row in rows.itertuples(index=False)}
        whole = [row for row in self.exclusions if takes_scan_out(row)]
        if self.images is None:
            indexed = (row for row in whole if row.stage == "index" and row.code != NO_IMAGE)
            found |= {row.unit: None for row in indexed if row.task != MISSING}
        else:
            out = [key for key in self.images if any(row.takes_out(Exclusion(*key)) for row in whole)]
            found |= dict.fromkeys(out)
        return [Exclusion(*key) for key in found]

    @cached_property
    def faults(self) -> dict[tuple[str, ...], list[Exclusion]]:
        """Acquired scan -> the rows that take it out, in their order; a scan without run is run 1."""
        numbered = any(unit.run != MISSING for unit in self.units)
        deciding = [row for row in self.exclusions if takes_scan_out(row)]
        mine = {}
        for unit in self.units:
            names = [unit] if unit.run != MISSING or not numbered else [unit, replace(unit, run="1")]
            mine[unit.unit] = [row for row in deciding if any(row.takes_out(name) for name in names)]
        return mine

    @property
    def arms(self) -> dict[str, list[str]]:
        """Arm -> participants: active ones, control, others by name; everybody where no arms are compared."""
        if self.study.group is None or self.allocation is None:
            return {EVERYONE: list(dict.fromkeys(self.runs["participant_id"]))}
        named = self.study.group.arms
        given = self.allocation["arm"]
        others = sorted(set(given.dropna()) - set(named.shown))
        people = self.allocation["participant_id"]
        return {arm: list(people[given == arm]) for arm in (*named.shown, *others)}


def takes_scan_out(row: Exclusion) -> bool:
    """Whether a row takes out whole scans, not one signal, scale or region of them."""
    return row.takes_the_run_out and row.stage not in SIGNAL_STAGES


def units_of_images(files: Iterable[str], study: Study) -> set[Key]:
    """Return the units of the functional images of a study's tasks and sessions among a dataset's files."""
    sessions = {session.id for session in study.sessions} or {MISSING}
    named = (parsed(path) for path in files if "/func/" in path and path.endswith((".nii", ".nii.gz")))
    units = {_unit_of(file) for file in named if file and file.suffix == "bold"}
    return {key for key in units if key[2] in study.tasks and key[1] in sessions}


def _unit_of(file: BidsFile) -> Key:
    sub, *others = (file.entities.get(name, MISSING) for name in ("sub", "ses", "task", "run"))
    return (f"sub-{sub}", *others)  # type: ignore[return-value]


def count_flow(records: Records) -> pd.DataFrame:
    """Return the flow as rows of `FLOW`: stations in order, each followed by the losses on the way to it."""
    return FLOW.frame([*_enrolment(records), *_visits(records)])


def _enrolment(records: Records) -> Iterator[dict[str, Any]]:
    arms = records.arms
    group = records.study.group
    everybody = {
        *records.screened,
        *records.runs["participant_id"],
        *(p for arm in arms.values() for p in arm),
    }
    everybody |= {row.participant_id for row in records.exclusions if row.participant_id != MISSING}
    yield _row("all", "screened", len(everybody))
    if group is None or records.allocation is None:
        return
    allocated = {person for people in arms.values() for person in people}
    if lost := len(everybody - allocated):
        yield _row("all", "randomised", lost, code=NOT_RANDOMISED)
    compared = group.arms.shown
    for arm, people in arms.items():
        yield _row(arm, "randomised", len(people))
        yield from _treated(records.allocation, arm)
        if arm not in compared:
            yield _row(arm, "expected", len(people), code=OTHER_ARM)


def _treated(allocation: pd.DataFrame, arm: str) -> Iterator[dict[str, Any]]:
    """Who received the treatment, where the trial office recorded it in a column `treated`."""
    if "treated" not in allocation:
        return
    said = allocation.loc[allocation["arm"] == arm, "treated"]
    words = said.astype(str).str.strip().str.lower()
    yield _row(arm, "treated", int(words.isin(YES).sum()))
    for lost, code in ((words.isin(NO), NOT_TREATED), (~words.isin([*YES, *NO]), UNKNOWN)):
        if lost.any():
            yield _row(arm, "treated", int(lost.sum()), code=code)


def _visits(records: Records) -> Iterator[dict[str, Any]]:
    study = records.study
    sessions = [session.id for session in study.sessions] or [MISSING]
    compared = list(records.arms.items())[: len(study.group.arms.shown) if study.group else 1]
    for session in sessions:
        tasks = {unit.task for unit in records.units if unit.unit[1] == session}
        for arm, people in compared:
            passed: dict[str, set[str]] = {}
            for task in (task for task in study.tasks if task in tasks):
                place = {"session": session, "task": task}
                rows, passed[task] = _scans(records, arm, set(people), place)
                yield from rows
            for outcome in study.group.modelled if study.group else ():
                yield from _modelled(records, arm, set(people), (session, sessions[0]), outcome, passed)


def _scans(
    records: Records, arm: str, people: set[str], place: Mapping[str, str]
) -> tuple[list[dict[str, Any]], set[str]]:
    """The stations of the scans of one task at one visit, and who has a scan that passed."""
    here = [
        unit
        for unit in records.units
        if (unit.unit[1], unit.task) == (place["session"], place["task"]) and unit.participant_id in people
    ]
    faults = records.faults
    readable = [unit for unit in here if not any(map(_unreadable, faults[unit.unit]))]
    passed = [unit for unit in readable if not faults[unit.unit]]
    rows = [_row(arm, "expected", len(people), **place)]
    reached = people
    for stage, units in (("acquired", here), ("readable", readable), ("passed", passed)):
        there = {unit.participant_id for unit in units}
        codes = Counter(_why(records, person, place, stage) for person in reached - there)
        rows += [_row(arm, stage, len(there), scans=len(units), **place)]
        rows += [_row(arm, stage, n, code=code, **place) for code, n in sorted(codes.items())]
        reached = there
    return rows, reached


def _unreadable(row: Exclusion) -> bool:
    return row.decided_by == "automatic" and row.stage not in QUALITY_STAGES


def _why(records: Records, person: str, place: Mapping[str, str], stage: str) -> str:
    """The code of the row that lost a person's scans on the way to a station."""
    unit = Exclusion(person, place["session"], place["task"])
    if stage != "acquired":
        own = [key for key in records.faults if key[:3] == unit.unit[:3]]
        faults = [row for key in own for row in records.faults[key]]
        deciding = [row for row in faults if _unreadable(row) == (stage == "readable")]
        return deciding[0].code if deciding else UNKNOWN
    about = [row for row in records.exclusions if row.region == MISSING and _may_concern(row, unit)]
    by_hand = [row.code for row in about if row.decided_by != "automatic" and row.takes_the_run_out]
    known = [code for code in (NO_IMAGE, NO_FOLDER, MISSED) if code in {row.code for row in about}]
    return [*by_hand, *known, MISSED][0]


def _may_concern(row: Exclusion, unit: Exclusion) -> bool:
    """Whether a row is about a unit of which no run is named."""
    return row.concerns(replace(unit, session_id=unit.unit[1], run=row.run))


def _modelled(
    records: Records,
    arm: str,
    people: set[str],
    visits: tuple[str, str],
    outcome: str,
    passed: Mapping[str, set[str]],
) -> Iterator[dict[str, Any]]:
    """Who has a value of an outcome at a visit, and who has one at the first visit too."""
    session, first = visits
    declared = records.study.outcomes.get(outcome)
    task = declared.task if declared else None
    of_images = declared is not None and declared.producer in OF_IMAGES
    base = passed.get(task, set()) if task and of_images else people
    seen = _seen(records.measures, outcome, session) & people
    place = {"session": session, "task": task or MISSING, "outcome": outcome}
    yield _row(arm, "modelled", len(seen), **place)
    regions = declared.regions if declared else frozenset()
    codes = Counter(_why_not(records, person, place, regions) for person in base - seen)
    for code, lost in sorted(codes.items()):
        yield _row(arm, "modelled", lost, code=code, **place)
    if session != first:
        paired = seen & _seen(records.measures, outcome, first)
        yield _row(arm, "paired", len(paired), **place)


def _seen(measures: pd.DataFrame, outcome: str, session: str) -> set[str]:
    rows = (measures["outcome"] == outcome) & measures["value"].notna()
    return set(measures.loc[rows & (measures["session_id"].fillna(MISSING) == session), "participant_id"])


def _why_not(records: Records, person: str, place: Mapping[str, str], regions: Collection[str]) -> str:
    """The code of the row that took a value: of its region or signal, else of the whole scan or visit."""
    unit = Exclusion(person, place["session"], place["task"])
    about = [
        row
        for row in records.exclusions
        if (_may_concern(row, unit) if unit.task != MISSING else row.concerns(Exclusion(*unit.unit[:2])))
        and row.stage != COMPARISON
    ]
    named = [row for row in about if row.region in {*regions, place["outcome"]} and row.region != MISSING]
    whole = [row for row in about if row.region == MISSING]
    signal = [row for row in whole if row.stage in SIGNAL_STAGES]
    for rows in (named, signal, whole):
        deciding = [row for row in rows if not row.code.startswith("W-")] or rows
        if deciding:
            return deciding[0].code
    return UNKNOWN


def _row(arm: str, stage: str, people: int, *, code: str | None = None, **more: Any) -> dict[str, Any]:
    words = WORDS.get(code, "see exclusions.tsv") if code else None
    place = {name: value for name, value in more.items() if value != MISSING}
    return {"arm": arm, "stage": stage, "people": people, "code": code, "reason": words} | place


def unreconciled(flow: pd.DataFrame, estimates: pd.DataFrame | None, study: Study) -> list[str]:
    """Return where a box is not the one before it less the losses, or not the n of a model."""
    found = [*_broken_enrolment(flow), *_broken_chains(flow, study)]
    return found + ([] if estimates is None else list(_other_counts(flow, estimates, study)))


def _broken_enrolment(flow: pd.DataFrame) -> Iterator[str]:
    """Screened people are randomised or have a reason; whoever is randomised is expected or not compared."""
    boxes, lost = flow[flow["code"].isna()], flow[flow["code"].notna()]
    randomised = boxes[boxes["stage"] == "randomised"]
    if randomised.empty:
        return
    screened = int(_of(boxes, stage="screened")["people"].sum())
    left = int(_of(lost, stage="randomised")["people"].sum())
    if screened != randomised["people"].sum() + left:
        yield f"screened {screened}, randomised {randomised['people'].sum()}, not randomised {left}"
    for arm, count in zip(randomised["arm"], randomised["people"], strict=True):
        told = _of(flow, arm=arm, stage="treated")["people"]
        if len(told) and told.sum() != count:
            yield f"{arm}: randomised {count}, treated or not {told.sum()}"
        expected = _of(flow, arm=arm, stage="expected")["people"]
        if any(expected != count):
            yield f"{arm}: randomised {count}, expected {sorted(set(expected))}"


def _broken_chains(flow: pd.DataFrame, study: Study) -> Iterator[str]:
    """Every station of the scans, and of each outcome, is the one before it less the losses."""
    boxes = flow[flow["code"].isna()]
    randomised = {
        str(row["arm"]): int(row["people"]) for row in _of(boxes, stage="randomised").to_dict("records")
    }
    for row in boxes.to_dict("records"):
        before = _before(row, boxes, study, randomised)
        here = _of(flow, **{name: row[name] for name in ("arm", "session", "task", "outcome", "stage")})
        if before is not None and before != here["people"].sum():
            where = ", ".join(str(row[name]) for name in ("arm", "session", "task", "outcome"))
            yield f"{where}: {before} before, {row['stage']} or lost {here['people'].sum()}"


def _before(
    row: Mapping[Any, Any], boxes: pd.DataFrame, study: Study, randomised: Mapping[str, int]
) -> int | None:
    """How many people stood at the station before one; None where it is a first one, or a subset."""
    stage = {"acquired": "expected", "readable": "acquired", "passed": "readable"}.get(row["stage"])
    place = {name: row[name] for name in ("arm", "session", "task")}
    if row["stage"] == "modelled":
        outcome = study.outcomes.get(row["outcome"])
        scans = outcome is not None and outcome.task is not None and outcome.producer in OF_IMAGES
        if not scans:
            return int(randomised[row["arm"]])
        stage = "passed"
    if stage is None:
        return None
    return int(_of(boxes, stage=stage, outcome=None, **place)["people"].sum())


def _other_counts(flow: pd.DataFrame, estimates: pd.DataFrame, study: Study) -> Iterator[str]:
    if study.group is None:
        return
    boxes = flow[flow["code"].isna() & flow["outcome"].notna()].fillna({"session": MISSING})
    counted = {
        tuple(row[name] for name in ("outcome", "session", "stage", "arm")): int(row["people"])
        for row in boxes.to_dict("records")
    }
    sides = _sides(study.group.arms)
    for row in estimates[estimates["session"] != "average"].to_dict("records"):
        at_session = row["method"] in ("bayes", "reml", "randomisation")
        stage = "modelled" if at_session or row["estimand"] == "difference_unadjusted" else "paired"
        for arms, name in zip(sides[row.get("comparison", "")], ("n_active", "n_control"), strict=True):
            places = [(row["outcome"], row["session"], stage, arm) for arm in arms]
            here = sum(counted[place] for place in places) if counted.keys() >= set(places) else None
            if row["reported"] and here != int(row[name]):
                where = f"{row['outcome']}, session {row['session']}, {row['method']}, {' + '.join(arms)}"
                yield f"{where}: n = {row[name]:.0f} in the model, {here} in the flow"


def _sides(arms: Arms) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """Name of a comparison -> the arms that n_active and n_control of its estimates count."""
    labels = arms.labels
    found = {
        one.name: (tuple(labels[arm] for arm in one.higher), tuple(labels[arm] for arm in one.lower))
        for one in arms.every_comparison
    }
    within: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {arm: ((arm,), ()) for arm in arms.actives}
    return found | within | {arms.control: ((), (arms.control,))}


def _of(table: pd.DataFrame, **cells: object) -> pd.DataFrame:
    hit = pd.Series(True, index=table.index)
    for name, cell in cells.items():
        hit &= table[name] == cell if isinstance(cell, str) else table[name].isna()
    return table[hit]
