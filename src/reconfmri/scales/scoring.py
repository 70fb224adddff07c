"""Clinical scales, scored and in long form; what cannot be known is missing with a reason."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import fmean
from typing import NamedTuple

import pandas as pd

from reconfmri.config import Scale
from reconfmri.config.scales import Score
from reconfmri.exclusions import MISSING, Exclusion
from reconfmri.tables import number_of

STAGE, CODE, FILLED = "score_scale", "E-DATA-B16", "W-DATA-B16"
COLUMNS = ["participant_id", "session_id", "domain", "outcome", "value", "se", "unit", "coverage", "df"]
ROUNDING = 1e-6
ENOUGH = 40  # ratings, before a whole table is said to count from another number
Row = Mapping[str, object]


class Why(NamedTuple):
    """Why a score is missing, or what is to be known about one; `absent`: nothing was written down."""

    what: str
    fix: str = "correct the table"
    absent: bool = False


@dataclass(frozen=True)
class Result:
    """A score, NaN with the reason why there is none; `remark`: it has one, and something to say."""

    value: float = math.nan
    reason: Why | None = None
    answered: float = math.nan  # share of its items
    remark: Why | None = None


@dataclass(frozen=True)
class Finding:
    """What is wrong with a score of a person and session, or to be known about it; `place`: file and line."""

    participant_id: str
    session_id: str
    outcome: str
    code: str
    place: str
    why: Why

    @property
    def exclusion(self) -> Exclusion:
        """The row of `exclusions.tsv` that records it."""
        reason = f"{self.code} {self.place}: {self.why.what}. Fix: {self.why.fix}"
        return Exclusion(
            self.participant_id,
            self.session_id,
            region=self.outcome,
            stage=STAGE,
            code=self.code,
            reason=reason,
        )


def score_scale(table: pd.DataFrame, name: str, scale: Scale) -> tuple[pd.DataFrame, list[Finding]]:
    """Return a row per person, session and score of `phenotype/<name>.tsv` (text), and what was found.

    With items the total is their sum (or mean), which must agree with the total that was written down. A
    person and session on several lines have no score, unless `scale.repeats` tells the lines apart.

    Raises
    ------
    ValueError
        A column is missing.
    """
    file = f"phenotype/{scale.table or name}.tsv"
    _check_columns(table, file, scale)
    of_table = _counts_from_elsewhere(table, scale)
    columns, cells = list(map(str, table.columns)), table.to_numpy(dtype=object)
    rows: list[tuple[object, ...]] = []
    found: list[Finding] = []
    for (person, session), lines in _visits(table).items():
        place = "line " + " and ".join(str(line + 2) for line in lines)
        visit = [dict(zip(columns, cells[line], strict=True)) for line in lines]
        fault = of_table or _fault_of_visit(visit, session, scale)
        results = {} if fault else _results(visit, scale)
        for part, unit in scale.scores.items():
            result, outcome = results.get(part, Result(reason=fault)), f"{name}.{part}"
            rows.append(
                (
                    person,
                    session,
                    "clinical",
                    outcome,
                    result.value,
                    math.nan,
                    unit,
                    result.answered,
                    math.nan,
                )
            )
            if why := result.reason or result.remark:
                code = CODE if result.reason else FILLED
                found.append(Finding(person, session, outcome, code, f"{file} {place}", why))
    return pd.DataFrame(rows, columns=COLUMNS), found


def plain_id(cell: object) -> str:
    """Return an id of a phenotype table as everywhere else: with `sub-`."""
    return f"sub-{str(cell).removeprefix('sub-')}"


def plain_visit(cell: object) -> str:
    """Return a visit of a phenotype table as everywhere else: without `ses-`; `n/a` for an empty cell."""
    return MISSING if cell is None or cell != cell else str(cell).removeprefix("ses-")


def meet_people(
    rows: pd.DataFrame,
    name: str,
    people: Collection[str],
    sessions: Sequence[str],
    outcomes: Sequence[str] = ("total",),
) -> tuple[pd.DataFrame, list[Finding]]:
    """Return the rows of `people`, and a finding per row of nobody and per person and session without one.

    `sessions` are those that a score is expected of, `outcomes` the scores, without the scale's name.
    """
    found: list[Finding] = []
    known = rows["participant_id"].isin(list(people))
    strangers = rows.loc[~known, ["participant_id", "session_id"]].drop_duplicates()
    for person, session in strangers.itertuples(index=False):
        why = Why(f"{person} is in no other table", "correct the id")
        found += _without_value(str(person), str(session), name, why, outcomes)
    there = set(zip(rows["participant_id"], rows["session_id"], strict=True))
    for person, session in product(people, sessions):
        if (person, session) not in there:
            why = Why(f"no row of {person} session {session}", "no action is needed if the visit was missed")
            found += _without_value(person, session, name, why, outcomes)
    return rows[known], found


def _without_value(person: str, session: str, name: str, why: Why, outcomes: Sequence[str]) -> list[Finding]:
    place = f"phenotype/{name}.tsv"
    return [Finding(person, session, f"{name}.{outcome}", CODE, place, why) for outcome in outcomes]


def needed_columns(scale: Scale) -> list[str]:
    """Return the columns without which a scale cannot be scored, beside the ids."""
    wanted = list(scale.columns) or [scale.total]
    wanted += [scale.day] if scale.windows else []
    wanted += [*scale.criteria.values()] if scale.diagnoses else []
    return [*wanted, *([scale.repeats] if scale.repeats else [])]


def _check_columns(table: pd.DataFrame, file: str, scale: Scale) -> None:
    wanted = ["participant_id", *needed_columns(scale)]
    if absent := [column for column in wanted if column not in table]:
        listed = [str(column) for column in table.columns]
        raise ValueError(f"{file}: columns {absent} are missing; it has {listed}")


def _visits(table: pd.DataFrame) -> dict[tuple[str, str], list[int]]:
    """(person, session) -> its lines, from 0."""
    given = table["session_id"] if "session_id" in table else pd.Series(None, index=table.index, dtype=object)
    visits: dict[tuple[str, str], list[int]] = {}
    for line, (person, session) in enumerate(zip(table["participant_id"], given, strict=True)):
        visits.setdefault((plain_id(person), plain_visit(session)), []).append(line)
    return visits


def _counts_from_elsewhere(table: pd.DataFrame, scale: Scale) -> Why | None:
    """What is wrong where a whole table counts from another number than is declared, else nothing.

    Then most ratings would be in range, and every one of them wrong: 1 to 5 in place of 0 to 4.
    """
    below, above = [], []  # how far each rating is from the lower, and beyond the upper end
    for number, column in zip(scale.item_numbers if scale.columns else (), scale.columns, strict=True):
        low, high = _ends_in_table(number, scale)
        ratings = pd.to_numeric(table[column], errors="coerce").dropna()
        below += list(ratings - low)
        above += list(ratings - high)
    if len(below) < ENOUGH:
        return None
    from_one = min(below) >= 1 and max(above) == 1 and above.count(1) > 1
    from_zero = min(below) == -1 and max(above) <= -1 and below.count(-1) > 1
    if not (from_one or from_zero):
        return None
    start = _ends_in_table(scale.item_numbers[0], scale)[0] + (1 if from_one else -1)
    what = f"all ratings fit a table that counts from {start:g}, and some are outside of the declared ends"
    return Why(what, f"declare items_from: {start:g}")


def _ends_in_table(number: int, scale: Scale) -> tuple[float, float]:
    """The lowest and highest rating of an item as the table writes them."""
    shift = 0.0 if scale.items_from is None else scale.items_from - scale.item_range[0]
    low, high = scale.ends(number)
    return low + shift, high + shift


def _fault_of_visit(visit: Sequence[Row], session: str, scale: Scale) -> Why | None:
    """Why a visit has no score at all: several lines, or a day outside of its window."""
    if len(visit) > 1:
        apart = {_occasion(row[scale.repeats]) for row in visit} if scale.repeats else set()
        if not scale.repeats:
            return Why("one visit is on several lines", "delete all but one, or declare `repeats`")
        if len(apart) < len(visit):
            return Why(f"two lines of one visit have one {scale.repeats}", "delete one")
    window = scale.windows.get(session)
    if window is None:
        return None
    day = _as_number(visit[0].get(scale.day))
    if day is None or math.isnan(day):
        return Why("its day is not known, so that it cannot be in its window", f"complete {scale.day}")
    if not window[0] <= day <= window[1]:
        what = f"day {day:g} is outside of the window, {window[0]:g} to {window[1]:g}"
        return Why(what, "no action is needed if that is its day; else correct it")
    return None


def _results(visit: Sequence[Row], scale: Scale) -> dict[str, Result]:
    """Score -> result of one visit; of several ratings the one that counts."""
    rows = _in_order(visit, scale)
    each = [_score(row, scale) for row in rows]
    found = {part: _taken([results[part] for results in each], scale) for part in each[0]}
    for value in scale.occasions:
        here = [
            one for row, one in zip(rows, each, strict=True) if _occasion(row[str(scale.repeats)]) == value
        ]
        absent = Result(
            reason=Why(f"no rating at {scale.repeats} {value}", "no action is needed if there was none")
        )
        found[f"{scale.repeats}_{value}"] = here[0]["total"] if here else absent
    return found


def _occasion(cell: object) -> str:
    """A cell of `repeats`: `40`, `40.0` and ` 40` are one minute."""
    value = _as_number(cell)
    return str(cell).strip() if value is None or not math.isfinite(value) else f"{value:g}"


def _in_order(visit: Sequence[Row], scale: Scale) -> list[Row]:
    if scale.repeats is None or scale.take in ("highest", "mean"):
        return list(visit)
    places = [_as_number(row[scale.repeats]) for row in visit]
    if any(place is None or math.isnan(place) for place in places):
        return sorted(visit, key=lambda row: str(row[str(scale.repeats)]))
    return [row for _, _, row in sorted(zip(places, range(len(visit)), visit, strict=True))]


def _taken(results: list[Result], scale: Scale) -> Result:
    """One result of several; a rating without a value leaves none where it could be the one that counts."""
    if len(results) == 1:
        return results[0]
    if scale.take in ("first", "last"):
        return results[0 if scale.take == "first" else -1]
    reasons = [result.reason for result in results if result.reason]
    if reasons:
        count = f"{len(reasons)} of {len(results)} ratings of the visit have no value"
        return Result(reason=Why(f"{count}: {reasons[0].what}", reasons[0].fix))
    if scale.take == "highest":
        return max(results, key=lambda result: result.value)
    return Result(fmean(result.value for result in results), answered=results[0].answered)


def _score(row: Row, scale: Scale) -> dict[str, Result]:
    """Score -> result of one line."""
    written, fault = _number(row, scale.total, scale.range) if scale.total in row else (math.nan, None)
    if not scale.columns:
        absent = Why(f"{scale.total} is missing", "no action is needed if the visit gave none", absent=True)
        reason = fault or (absent if math.isnan(written) else None)
        return {"total": Result(math.nan if reason else written, reason)}
    items, faults = _items(row, scale)
    results = {
        part: _of_items(subscale.items, subscale.score, items, faults, scale)
        for part, subscale in scale.subscales.items()
    }
    results["total"] = _total(written, fault, results, items, faults, scale)
    if scale.diagnoses:
        results["diagnosis"] = _diagnosis(row, items, faults, scale)
    return results


def _items(row: Row, scale: Scale) -> tuple[dict[int, float], dict[int, Why]]:
    """Number -> rating (NaN: missing) as the scale counts it, reversed ones turned; number -> fault."""
    items: dict[int, float] = {}
    faults: dict[int, Why] = {}
    for number, column in zip(scale.item_numbers, scale.columns, strict=True):
        ends = _ends_in_table(number, scale)
        value, fault = _number(row, column, ends)
        if fault:
            faults[number] = fault
        elif number in scale.reversed:
            value = ends[0] + ends[1] - value
        items[number] = value - ends[0] + scale.ends(number)[0]
    return items, faults


def _of_items(
    numbers: Collection[int],
    score: Score,
    items: Mapping[int, float],
    faults: Mapping[int, Why],
    scale: Scale,
) -> Result:
    """The score of some items; missing ones are the mean of the others, up to the declared share."""
    if mine := [faults[number] for number in numbers if number in faults]:
        return Result(reason=_all_of(mine))
    known = [items[number] for number in numbers if not math.isnan(items[number])]
    absent = [number for number in numbers if math.isnan(items[number])]
    answered = len(known) / len(numbers)
    columns = dict(zip(scale.item_numbers, scale.columns, strict=True))
    named = [columns[number] for number in absent]
    if absent and (not known or len(absent) > scale.max_missing * len(numbers)):
        fix = "no action is needed if they were not answered; else complete them"
        return Result(
            reason=Why(f"items {named} are missing, so the score is not known", fix), answered=answered
        )
    if not absent:
        return Result(sum(known) if score == "sum" else fmean(known), answered=answered)
    what = f"items {named} are missing and taken to be the mean of the {len(known)} others"
    remark = Why(what, "no action is needed if that is meant; else set max_missing: 0")
    return Result(fmean(known) * (len(numbers) if score == "sum" else 1), answered=answered, remark=remark)


def _total(
    written: float,
    fault: Why | None,
    parts: Mapping[str, Result],
    items: Mapping[int, float],
    faults: Mapping[int, Why],
    scale: Scale,
) -> Result:
    """The total of the items, compared with the one that was written down."""
    if fault:
        return Result(reason=fault)
    clusters = _clusters(scale)
    if open_ones := [reason for name in clusters if (reason := parts[name].reason)]:
        return Result(reason=_all_of(open_ones))
    filled = dict(items)
    for name in clusters:
        mine = scale.subscales[name].items
        known = [items[number] for number in mine if not math.isnan(items[number])]
        filled |= {number: fmean(known) for number in mine if math.isnan(items[number])}
    total = _of_items(scale.item_numbers, scale.score, filled, faults, scale)
    answered = sum(not math.isnan(value) for value in items.values()) / len(items)
    if total.reason:
        return Result(reason=total.reason, answered=answered)
    remark = total.remark or next((part.remark for part in parts.values() if part.remark), None)
    if not remark and not math.isnan(written) and abs(total.value - written) > ROUNDING:
        how = "items sum to" if scale.score == "sum" else "items' mean is"
        what = f"{scale.total} is {written:g}, its {how} {total.value:g}"
        if scale.score == "sum" and abs(abs(total.value - written) - len(items)) < ROUNDING:
            what += f", {len(items)} apart: one of them counts the items from another number"
        return Result(reason=Why(what), answered=answered)
    return Result(total.value, answered=answered, remark=remark)


def _all_of(reasons: Iterable[Why]) -> Why:
    """Several reasons as one."""
    whats, fixes, _ = zip(*dict.fromkeys(reasons), strict=True)
    return Why("; ".join(whats), "; ".join(dict.fromkeys(fixes)))


def _clusters(scale: Scale) -> list[str]:
    """The subscales where they are a partition of the items: a missing item is then filled within its own."""
    numbers = [number for subscale in scale.subscales.values() for number in subscale.items]
    return list(scale.subscales) if sorted(numbers) == sorted(scale.item_numbers) else []


def _diagnosis(row: Row, items: Mapping[int, float], faults: Mapping[int, Why], scale: Scale) -> Result:
    """1 where the symptoms and criteria of the diagnosis are there, 0 where not; missing items leave it open.

    It is known in spite of a missing item where the item could not change it.
    """
    rule = scale.diagnosis
    if rule is None or faults:
        return Result(reason=_all_of(faults.values()) if faults else None)
    least = most = True
    for part, needed in rule.symptoms.items():
        mine = [items[number] for number in scale.subscales[part].items]
        present = sum(value >= rule.rated for value in mine)
        least &= present >= needed
        most &= present + sum(map(math.isnan, mine)) >= needed
    for criterion in rule.criteria:
        value, fault = _number(row, scale.criteria[criterion], (0, 1))
        if fault or not (math.isnan(value) or value in (0, 1)):
            return Result(reason=fault or Why(f"{criterion} is {value:g}, expected 0 or 1"))
        least &= value == 1
        most &= value != 0
    if least != most:
        fix = "no action is needed if it was not answered; else complete it"
        return Result(reason=Why("an item or a criterion is missing that decides the diagnosis", fix))
    return Result(float(least))


def _as_number(cell: object) -> float | None:
    """A cell as a number, NaN when missing, None when it is none."""
    if cell is None or cell != cell:
        return math.nan
    try:
        return number_of(cell)
    except ValueError:
        return None


def _number(row: Row, column: str, allowed: tuple[float, float]) -> tuple[float, Why | None]:
    """Return a cell as a number (NaN when missing), and what is wrong with it."""
    if (cell := row[column]) is None or cell != cell:
        return math.nan, None
    value = _as_number(cell)
    if value is None:
        return math.nan, Why(f"{column} is {cell!r}, not a number", "correct the table, n/a for missing")
    if not allowed[0] <= value <= allowed[1]:
        return math.nan, Why(f"{column} is {value:g}, outside {allowed[0]:g} to {allowed[1]:g}")
    return value, None


def of_sessions(found: Iterable[Finding], sessions: Collection[str]) -> list[Finding]:
    """Return what was found in the study's sessions; all where it has none."""
    return [one for one in found if not sessions or one.session_id in (*sessions, MISSING)]
