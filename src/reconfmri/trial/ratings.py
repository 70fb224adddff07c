"""Ratings of the scans as decisions: by one rater or two, how well they agree, who decides otherwise."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reconfmri.bids import sha256
from reconfmri.contracts.ratings import ARTEFACTS, EXCLUDE, FORMAT, KEEP, RATINGS, UNSURE
from reconfmri.contracts.specs import TableSpec, text
from reconfmri.decisions import CODE, DECISIONS, RATED
from reconfmri.exclusions import DESCRIPTIONS, MISSING, UNIT, Exclusion
from reconfmri.files import InputError, read_text
from reconfmri.trial.flow import takes_scan_out
from reconfmri.trial.log import DECIDE, read_log

ADJUDICATION = "config/adjudication.tsv"
TO_DECIDE = TableSpec(
    (
        *(text(name, DESCRIPTIONS[name]) for name in UNIT),
        text("ratings", "What each rater said, with artefacts and notes"),
        text("decision", "To fill in: keep or exclude"),
        text("by", "To fill in: who decides"),
        text("reason", "To fill in: why"),
    ),
    "Scans on which the raters differ or of which they are unsure",
)
MOST_RATERS = 2
Key = tuple[str, ...]


@dataclass(frozen=True)
class Rating:
    """What a rater said of one scan."""

    rating: str
    artifacts: tuple[str, ...] = ()
    notes: str = ""
    time: str = ""
    pictures: str = ""  # digest of those that were rated

    @property
    def words(self) -> str:
        """Rating, artefacts and notes on one line."""
        parts = [self.rating, ", ".join(self.artifacts), " ".join(self.notes.split())]
        return "; ".join(part for part in parts if part)


@dataclass(frozen=True)
class Rater:
    """A rater, what he said of each scan, and the sha256 of his file."""

    name: str
    ratings: Mapping[Key, Rating]
    sha256: str


@dataclass(frozen=True)
class Agreement:
    """How two raters agree on `n` scans: the share, and Cohen's kappa with its 95 % interval.

    Kappa is NaN where both gave one rating to every scan: chance alone would agree as well.
    """

    n: int
    share: float
    kappa: float
    lower: float
    upper: float

    @property
    def words(self) -> str:
        """`93 % of 28 scans alike, kappa 0.84 [0.70, 0.98]`."""
        alike = f"{100 * self.share:.0f} % of {self.n} scans alike"
        if self.kappa != self.kappa:
            return f"{alike}, kappa not defined (one rating only)"
        return f"{alike}, Cohen's kappa {self.kappa:.2f} [{self.lower:.2f}, {self.upper:.2f}]"


def read_ratings(path: str | Path, study: str, scans: Iterable[Key]) -> Rater:
    """Return the ratings in a file that the rating page saved; scans without a rating are not in them.

    Raises
    ------
    ValueError
        It is no such file, of another study, or names a scan, a rating or an artefact that there is not.
    """
    fix = "save it anew from results/participants/cockpit.html"
    try:
        found = json.loads(read_text(path))
        name, rows = str(found["rater"]).strip(), list(found["ratings"])
        given = {_key(row): _rating(row) for row in rows if row["rating"]}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(path, f"it is no file of ratings ({error})", fix=fix, code=CODE) from None
    if (found.get("format"), found.get("study")) != (FORMAT, study) or not name:
        what = f"it is of the study {found.get('study')!r}, in the format {found.get('format')!r}"
        raise InputError(path, what, fix=fix, code=CODE)
    if unknown := sorted(set(given) - set(scans)):
        what = f"{' '.join(unknown[0])} is no scan of the run table"
        raise InputError(path, what, fix=fix, code=CODE)
    return Rater(name, given, sha256(Path(path)))


def _key(row: Mapping[str, Any]) -> Key:
    return Exclusion(*(str(row[name]) for name in UNIT)).unit


def _rating(row: Mapping[str, Any]) -> Rating:
    artifacts = tuple(map(str, row["artifacts"]))
    if row["rating"] not in RATINGS or set(artifacts) - set(ARTEFACTS):
        raise ValueError(f"{row['rating']!r} with {list(artifacts)}")
    return Rating(
        str(row["rating"]), artifacts, str(row["notes"]), str(row["time"])[:19], str(row.get("pictures", ""))
    )


def agreement(one: Rater, other: Rater) -> Agreement:
    """Return how two raters agree on the scans that both rated, over keep, unsure and exclude.

    Cohen, Educ Psychol Meas 1960;20:37; interval of Fleiss, Cohen & Everitt, Psychol Bull 1969;72:323.
    """
    from statsmodels.stats.inter_rater import cohens_kappa

    both = [key for key in one.ratings if key in other.ratings]
    places = {name: place for place, name in enumerate(RATINGS)}
    counts = np.zeros((len(places), len(places)))
    for key in both:
        counts[places[one.ratings[key].rating], places[other.ratings[key].rating]] += 1
    share = float(np.trace(counts) / max(len(both), 1))
    if max(counts.sum(axis=0).max() * counts.sum(axis=1).max(), 1) >= len(both) ** 2:
        return Agreement(len(both), share, np.nan, np.nan, np.nan)
    found = cohens_kappa(counts)
    return Agreement(len(both), share, float(found.kappa), float(found.kappa_low), float(found.kappa_upp))


def decide(
    scans: Sequence[Key],
    raters: Sequence[Rater],
    exclusions: Iterable[Exclusion],
    adjudicated: Mapping[Key, Mapping[str, str]],
    *,
    now: str,
    pictures: Mapping[Key, str] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the decisions (`DECISIONS`) and what is still to be decided by somebody (`TO_DECIDE`).

    `exclusions` are those of the workflow, of which thresholds decide without raters; `adjudicated`: scan ->
    decision, by, reason; `pictures`: scan -> digest of its pictures as they are now.

    Raises
    ------
    ValueError
        The raters are one person, or a scan that no threshold took out is not rated by each of them, or was
        rated on pictures that have changed since.
    """
    names = [rater.name for rater in raters]
    if len({name.lower() for name in names}) < len(names) or len(names) > MOST_RATERS:
        what = f"{len(names)} files of ratings, by {len({name.lower() for name in names})} people"
        raise InputError(" ".join(names), what, fix="give one file of each of one or two raters", code=CODE)
    deciding = [row for row in exclusions if takes_scan_out(row) and row.decided_by == "automatic"]
    out = {key: next((row for row in deciding if row.takes_out(Exclusion(*key))), None) for key in scans}
    for rater in raters:
        if missing := [key for key in scans if out[key] is None and key not in rater.ratings]:
            what = f"{len(missing)} scans are not rated, {' '.join(missing[0])} is the first"
            raise InputError(rater.name, what, fix="rate them, and save the file again", code=CODE)
        _check_pictures(rater, [key for key in scans if out[key] is None], pictures or {})
    rows, open_ones = [], []
    for key in scans:
        unit, threshold = dict(zip(UNIT, key, strict=True)), out[key]
        said = [] if threshold else [rater.ratings[key] for rater in raters]
        decided = _decided(threshold, said, names, adjudicated.get(key), now)
        if decided:
            rows.append(unit | decided)
        else:
            told = " | ".join(f"{name}: {each.words}" for name, each in zip(names, said, strict=True))
            open_ones.append(unit | {"ratings": told})
    return DECISIONS.frame(rows), TO_DECIDE.frame(open_ones)


def _check_pictures(rater: Rater, scans: Sequence[Key], pictures: Mapping[Key, str]) -> None:
    """A scan that is no longer on the page was taken out by an earlier decision and has no pictures."""
    seen = {key: rater.ratings[key].pictures for key in scans}
    if other := [key for key in scans if pictures.get(key, seen[key]) != seen[key]]:
        first = " ".join(other[0])
        what = f"{len(other)} scans were rated on other pictures than those of now, {first} is the first"
        fix = "open the rating page with this file: it names them; rate them again and save it"
        raise InputError(rater.name, what, fix=fix, code=CODE)


def _decided(
    threshold: Exclusion | None,
    said: Sequence[Rating],
    names: Sequence[str],
    adjudicated: Mapping[str, str] | None,
    now: str,
) -> dict[str, str] | None:
    """The decision on one scan; None where somebody has to make it."""
    if threshold:
        start = {"decision": EXCLUDE, "rule": "threshold", "who": "automatic", "when": now}
        return start | {"reason": " ".join(threshold.reason.split())}
    given = {each.rating for each in said}
    if len(given) == 1 and UNSURE not in given:
        reasons = [words for each in said if (words := each.words.partition("; ")[2])]
        return {
            "decision": said[0].rating,
            "rule": "one rater" if len(said) == 1 else "two raters",
            "who": " and ".join(names),
            "when": max(each.time for each in said),
            "reason": " | ".join(reasons) or "no artefact was noted",
        }
    if adjudicated:
        return {"decision": adjudicated["decision"], "rule": "adjudicated", "who": adjudicated["by"]} | {
            "when": now,
            "reason": adjudicated["reason"],
        }
    return None


def read_adjudicated(folder: Path) -> dict[Key, dict[str, str]]:
    """Return scan -> decision, by, reason, of the rows that somebody filled in; none without a file.

    Raises
    ------
    ValueError
        A row is filled in by half, or decides neither keep nor exclude.
    """
    path, found = folder / ADJUDICATION, {}
    for line, row in enumerate(TO_DECIDE.read(path).to_dict("records") if path.is_file() else (), start=2):
        cells = {name: str(row[name]) for name in ("decision", "by", "reason") if row[name] is not None}
        if not cells:
            continue
        if len(cells) < 3 or cells["decision"] not in (KEEP, EXCLUDE):
            what = f"line {line}: {cells} is no decision with name and reason"
            raise InputError(ADJUDICATION, what, fix="keep or exclude, by whom, and why", code=CODE)
        found[Exclusion(*(row[name] or MISSING for name in UNIT)).unit] = cells
    return found


def check_decided(folder: Path) -> None:
    """Check that the decisions are as `reconfmri decide` noted them in the trial log.

    Raises
    ------
    ValueError
        They were changed, added or taken away by hand.
    """
    noted = [entry for entry in read_log(folder) if entry.event == DECIDE]
    path = folder / RATED
    now = sha256(path) if path.is_file() else None
    if now != (noted[-1].facts["sha256"] if noted else None):
        what = "it is not as `reconfmri decide` noted it in the trial log"
        raise InputError(RATED, what, fix="run `reconfmri decide` again, or put it back", code=CODE)
