"""Values in a dataset's tables that no step could use: events, recordings, scales. Images are not read."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd

from reconfmri import bids
from reconfmri.channels import choose_recording, describe_recording
from reconfmri.config import CONFIG, LONG_SCRIPT, Connectivity, FirstLevel, Scale, Study, Task
from reconfmri.dataset import twice
from reconfmri.events import cut_windows, name_events, read_events
from reconfmri.exclusions import MISSING, UNIT, DataFault
from reconfmri.files import explained
from reconfmri.labels import SPELLING_CODE, essence, first_of
from reconfmri.problems import Problem
from reconfmri.scales.scoring import needed_columns, plain_id, plain_visit, score_scale
from reconfmri.signal.beta_series import MIN_BETAS
from reconfmri.signal.contrasts import contrasts_of_run
from reconfmri.signal.correlation import MIN_DIMENSIONS, cosines_in
from reconfmri.signal.first_level import KEPT_EFFICIENCY, check_task, share_left_by_filter
from reconfmri.signal.habituation import Cost, cost_of, scripts_of
from reconfmri.tables import read_table

# Blocks keep 1 - 8 / pi^2 = 19 % of their variance without their own frequency; their responses keep less.
WITHOUT_FUNDAMENTAL = 0.25
DEAR = 2.0  # times the variance of the plain contrast
TIME_ROUNDING = 1e-3  # s
EARLY = 0.5  # share of a run that its events fill at least, if they are in seconds
NOBODY, BARE, EARLY_END = "W-BIDS-B16", "W-BIDS-B13", "W-DATA-B13"


def check_events(root: Path, study: Study, table: pd.DataFrame) -> list[Problem]:
    """Events that a run cannot be modelled with, rows without a trial type, types that the study lacks."""
    problems = []
    for name, task in study.tasks.items():
        runs = table[(table["task"] == name) & (table["events"] != MISSING)]
        if not task.conditions or runs.empty:
            continue
        first_level = study.first_level if study.first_level and study.first_level.task == name else None
        tables, found = _read_all(root, runs, task, first_level.rating_columns if first_level else ())
        problems += _trial_types(name, task, {path: of for path, of in tables.items() if of is not None})
        for row in runs.itertuples():
            events = tables[str(row.events)]
            if events is not None:
                problems += _without_type(row, name, events, task)
                faults = _model(row, events, task) or _task(row, events, task, first_level)
                found += faults
                problems += [] if faults else _early_end(row, events)
        problems += _stop_when_all(found, len(runs), f"run of task {name}")
        coupled = study.connectivity
        if coupled and coupled.task == name and "beta_series" in coupled.estimators:
            problems += _short_series(coupled, task, tables)
        if first_level:
            problems += _filtered(first_level, task, runs, tables)
            problems += _ordered(first_level, task, tables)
            problems += _rated(first_level, task, runs, tables) + _narrow_bins(first_level, runs)
    return problems


def _rated(
    settings: FirstLevel, task: Task, runs: pd.DataFrame, tables: dict[str, pd.DataFrame | None]
) -> list[Problem]:
    """Runs whose events lack the ratings that a contrast is over; STOP where every run does."""
    found: dict[str, list[Problem]] = defaultdict(list)
    for row in runs.itertuples() if settings.modulators else ():
        path, duration = str(row.events), float(str(row.tr)) * int(str(row.n_volumes))
        if (events := tables[path]) is None:
            continue
        cut, windowed = cut_windows(events, task)
        known = cut[cut["trial_type"].isin([*windowed.conditions, *windowed.ignore])]
        try:
            faults = contrasts_of_run(settings, windowed, known, duration=duration).faults
        except DataFault:
            continue  # named by `_model`
        for fault in faults:
            problem = _out(row, fault, path)
            found[fault.region].append(
                replace(problem, severity="WARN") if fault.code.startswith("W-") else problem
            )
    return [
        *found.pop(MISSING, []),
        *(
            problem
            for contrast, lost in found.items()
            for problem in _stop_when_all(lost, len(runs), f"run with the contrast {contrast!r}")
        ),
    ]


def _narrow_bins(settings: FirstLevel, runs: pd.DataFrame) -> list[Problem]:
    """STOP where a bin of the response's course is shorter than a run's TR: no volume need lie in it."""
    if settings.fir is None or runs.empty:
        return []
    narrowest = min(end - start for start, end in pairwise(settings.fir.edges))
    slowest = float(runs["tr"].astype(float).max())
    if narrowest > slowest - TIME_ROUNDING:
        return []
    what = f"first_level.fir.delays has a bin of {narrowest:g} s, and the TR is up to {slowest:g} s"
    return [Problem("STOP", "E-CONF-C13", what, "bins of at least one TR", CONFIG)]


def _filtered(
    settings: FirstLevel, task: Task, runs: pd.DataFrame, tables: dict[str, pd.DataFrame | None]
) -> list[Problem]:
    """Contrasts of which the high-pass filter removes the most, for it is above the task's own frequency."""
    left: dict[str, list[float]] = defaultdict(list)
    for row in runs.to_dict("records"):
        events = tables[row["events"]]
        if events is None:
            continue
        events, cut = cut_windows(events, task)
        known = events[events["trial_type"].isin([*cut.conditions, *cut.ignore])]
        tr, n_volumes = float(row["tr"]), int(row["n_volumes"])
        try:
            shares = share_left_by_filter(known, tr=tr, n_volumes=n_volumes, task=cut, settings=settings)
        except DataFault:
            continue  # named by `_model`
        for contrast, share in shares.items():
            left[contrast].append(share)
    return [
        _too_high(settings.high_pass, contrast, shares)
        for contrast, shares in left.items()
        if min(shares) < KEPT_EFFICIENCY
    ]


def _ordered(settings: FirstLevel, task: Task, tables: dict[str, pd.DataFrame | None]) -> list[Problem]:
    """What the orders of scripts cannot separate, and what they separate only at a price."""
    costs: dict[str, list[Cost]] = defaultdict(list)
    for events in tables.values():
        if events is None or not settings.script_contrasts:
            continue
        cut, windowed = cut_windows(events, task)
        played = cut[cut["trial_type"].isin(list(windowed.conditions))].sort_values("onset", kind="stable")
        names = [windowed.conditions[str(kind)] for kind in played["trial_type"]]
        scripts = scripts_of(names)
        for contrast, wanted in settings.script_contrasts.items():
            if set(wanted.weights) <= set(names):
                costs[contrast].append(cost_of(scripts, wanted))
    return [problem for contrast, found in costs.items() if (problem := _priced(contrast, found))]


def _short_series(
    settings: Connectivity, task: Task, tables: dict[str, pd.DataFrame | None]
) -> list[Problem]:
    """Conditions with too few events for the beta series that the study asks for."""
    weighed = {name for weights in settings.contrasts.values() for name in weights}
    counts: dict[str, list[int]] = defaultdict(list)
    for events in tables.values():
        if events is not None:
            played = events["trial_type"].map(task.conditions)
            for name in sorted(weighed):
                counts[name].append(int((played == name).sum()))
    return [
        Problem(
            "STOP",
            "E-STAT-E03",
            f"connectivity.estimators names beta_series, which needs {MIN_BETAS} events of a condition, and "
            f"{name!r} has at most {max(found)} in a run",
            "take beta_series out",
            CONFIG,
        )
        for name, found in counts.items()
        if max(found) < MIN_BETAS
    ]


def _priced(contrast: str, costs: list[Cost]) -> Problem | None:
    """STOP where no run can estimate a contrast over scripts, else a remark on its price."""
    what = f"first_level.script_contrasts.{contrast}"
    lost = [cost for cost in costs if math.isinf(cost.variance)]
    if lost:
        what += f" is not estimable in {len(lost)} of {len(costs)} orders of scripts: rank {lost[0].rank} of "
        what += f"the {lost[0].terms} terms of its model"
        fix = "take a term out of `adjust`, or ask for another quantity"
        if len(lost) == len(costs):
            return Problem("STOP", "E-STAT-E02", what, fix, CONFIG)
        return Problem("WARN", "W-STAT-E06", what, fix, CONFIG)
    price = max(cost.variance for cost in costs)
    if price < DEAR:
        return None
    what += f" has up to {price:.3g} times the variance of the plain contrast of means, for the order of "
    what += "the scripts"
    return Problem("WARN", "W-STAT-E06", what, "no action is needed if that precision is enough", CONFIG)


def _too_high(high_pass: float, contrast: str, shares: list[float]) -> Problem:
    """STOP where no run keeps what lies above the task's own frequency, else a remark."""
    low = [share for share in shares if share < KEPT_EFFICIENCY]
    what = f"first_level.high_pass is {high_pass:g} Hz ({1 / high_pass:.0f} s); it leaves as little as "
    what += f"{100 * min(low):.0f} % of the precision of contrast {contrast!r}, in {len(low)} of "
    what += f"{len(shares)} run{'s' * (len(shares) > 1)} less than half"
    fix = "lower it, so that its period is longer than two cycles of the task"
    if max(shares) < WITHOUT_FUNDAMENTAL:
        return Problem("STOP", "E-CONF-C13", f"{what}: the task's own frequency is below it", fix, CONFIG)
    return Problem("WARN", "W-STAT-E02", what, fix, CONFIG)


def check_band(study: Study, table: pd.DataFrame) -> list[Problem]:
    """Runs in which the band of connectivity holds too few frequencies, whatever the confounds."""
    settings = study.connectivity
    if settings is None:
        return []
    runs = table[table["task"] == settings.task]
    problems = []
    for row in runs.itertuples():
        tr, n_volumes = float(str(row.tr)), int(str(row.n_volumes))
        if (n_inside := len(cosines_in(settings.band, n_volumes=n_volumes, tr=tr))) < MIN_DIMENSIONS:
            reason = (
                f"connectivity.band {list(settings.band)} Hz holds {n_inside} frequencies of {n_volumes} "
            )
            reason += f"volumes of {tr:g} s, expected at least {MIN_DIMENSIONS}"
            fix = f"correct the band; a run has frequencies up to {0.5 / tr:g} Hz"
            problems.append(_out(row, DataFault("E-STAT-E03", reason, fix=fix), str(row.bold)))
    return _stop_when_all(problems, len(runs), f"run of task {settings.task}")


def _read_all(
    root: Path, runs: pd.DataFrame, task: Task, ratings: Collection[str] = ()
) -> tuple[dict[str, pd.DataFrame | None], list[Problem]]:
    """Events by path, None where they cannot be read, and the runs that are out for it."""
    tables: dict[str, pd.DataFrame | None] = {}
    problems = []
    for row in runs.itertuples():
        path = str(row.events)
        if tables.get(path) is not None:
            continue  # inherited by several runs
        try:
            tables[path] = read_events(root / path, task.column, ratings)
        except DataFault as fault:
            tables[path] = None
            problems.append(_out(row, fault, path))
    return tables, problems


def _out(row: object, fault: DataFault, path: str) -> Problem:
    unit = {key: str(getattr(row, key)) for key in UNIT}
    return Problem("EXCL", fault.code, fault.reason, fault.fix, path, **unit)


def _model(row: object, events: pd.DataFrame, task: Task) -> list[Problem]:
    """What keeps a run from being modelled; trial types that the study lacks are a line of their own."""
    known = events[events["trial_type"].isin([*task.conditions, *task.ignore])]
    if (
        len(known) < events["trial_type"].notna().sum()
        and not known["trial_type"].isin(task.conditions).any()
    ):
        return []
    try:
        duration = float(getattr(row, "tr")) * int(getattr(row, "n_volumes"))  # noqa: B009 - a row of a table
        name_events(known, task, duration=duration)
    except DataFault as fault:
        return [_out(row, fault, str(getattr(row, "events")))]  # noqa: B009
    return []


def _task(row: Any, events: pd.DataFrame, task: Task, settings: FirstLevel | None) -> list[Problem]:
    """What keeps the contrasts from being estimated in a run whose events are each in order."""
    cut, windowed = cut_windows(events, task)
    known = cut[cut["trial_type"].isin([*windowed.conditions, *windowed.ignore])]
    if settings is None or len(known) < cut["trial_type"].notna().sum():
        return []
    try:
        check_task(known, tr=float(row.tr), n_volumes=int(row.n_volumes), task=windowed, settings=settings)
    except DataFault as fault:
        return [_out(row, fault, str(row.events))]
    return []


def _early_end(row: Any, events: pd.DataFrame) -> list[Problem]:
    """A remark on a run that goes on for longer than its events: they may be in volumes or in minutes."""
    duration = float(row.tr) * int(row.n_volumes)
    end = float((events["onset"] + events["duration"].fillna(0)).max())
    if events.empty or not 0 <= end < EARLY * duration:
        return []
    what = f"the last event ends after {end:g} s of a run of {duration:g} s: are onsets in volumes or minutes"
    return [
        Problem("WARN", EARLY_END, what, "no action is needed if nothing comes after it", str(row.events))
    ]


def _trial_types(name: str, task: Task, tables: dict[str, pd.DataFrame]) -> list[Problem]:
    """Trial types that the study file does not name, and conditions that no events table holds."""
    found: dict[str, list[str]] = defaultdict(list)
    problems = []
    for path, events in tables.items():
        for kind in events["trial_type"].dropna().unique():
            found[str(kind)].append(path)
    for kind in sorted(set(task.conditions) - set(found)) if found else ():
        what = f"tasks.{name}.conditions names the trial type {kind!r}, which no events table has"
        fix = f"correct it; the data have {sorted(found)}"
        problems.append(Problem("STOP", "E-CONF-C04", what, fix, CONFIG))
    known = [*task.conditions, *task.ignore]
    for kind in sorted(set(found) - set(known)):
        near = next((other for other in known if essence(other) == essence(kind)), None)
        hint = f" (looks like {near!r})" if near else ""
        fix = f"name it in tasks.{name}.conditions or tasks.{name}.ignore"
        what = f"the trial type {kind!r}{hint} is not in the study file; its runs would be excluded"
        problems += [Problem("STOP", "E-BIDS-B13", what, fix, path) for path in found[kind]]
    return problems


def _without_type(row: object, name: str, events: pd.DataFrame, task: Task) -> list[Problem]:
    """A remark on a run in whose events some rows have no trial type."""
    n_bare = int(events["trial_type"].isna().sum())
    if not n_bare or MISSING in task.ignore:
        return []
    what = f"{n_bare} of {len(events)} rows have the trial_type n/a; the run is modelled without them"
    fix = f'no action is needed if they are no events of interest (add "n/a" to tasks.{name}.ignore); '
    fix += "else name them"
    unit = {key: str(getattr(row, key)) for key in UNIT}
    return [Problem("WARN", BARE, what, fix, str(getattr(row, "events")), **unit)]  # noqa: B009


def _stop_when_all(problems: list[Problem], n_all: int, what: str) -> list[Problem]:
    """The problems; as STOP when they leave nothing over."""
    if not problems or len(problems) < n_all:
        return problems
    return [replace(item, severity="STOP", what=f"{item.what}; no {what} would be left") for item in problems]


def check_recordings(root: Path, study: Study, table: pd.DataFrame) -> list[Problem]:
    """Recordings that their JSON misdescribes, as skin conductance in mV; scripts too long for a peak."""
    problems = []
    for channel in study.channels:
        runs = table[(table["task"] == channel.task) & (table["physio"] != MISSING)]
        found = []
        for row in runs.itertuples():
            paths = bids.paths_in(str(row.physio))
            sidecars = [bids.read_sidecar(root, path) for path in paths]
            path = paths[0]
            try:
                file, sidecar = choose_recording(
                    list(map(Path, paths)), sidecars, channel.kind, channel.column
                )
                path = file.as_posix()
                describe_recording(
                    sidecar, channel.kind, file.name, column=channel.column, slowest=channel.slowest
                )
            except DataFault as fault:
                found.append(_out(row, fault, path))
        problems += _stop_when_all(found, len(runs), f"recording of {channel.what}")
    return problems + _long_scripts(root, study, table)


def _long_scripts(root: Path, study: Study, table: pd.DataFrame) -> list[Problem]:
    """A remark where the primary score is the peak of the first seconds and the scripts are long."""
    settings = study.skin_conductance
    if settings is None or settings.scores[0] != "peak":
        return []
    task = study.tasks[settings.task]
    runs = table[(table["task"] == settings.task) & (table["events"] != MISSING)]
    tables, _ = _read_all(root, runs, task)
    lengths = [
        of[of["trial_type"].isin(task.conditions)]["duration"] for of in tables.values() if of is not None
    ]
    median = float(pd.concat(lengths).median()) if lengths else 0.0
    if not median > LONG_SCRIPT:
        return []
    what = f"the primary score is `peak`, of {settings.window[1]:g} s, and scripts last {median:.0f} s"
    fix = "put `level` first in skin_conductance.scores; no action is needed if the peak is meant"
    return [Problem("WARN", "W-CONF-B15", what, fix, CONFIG)]


def check_scales(root: Path, study: Study, people: Iterable[str]) -> list[Problem]:
    """Tables of `phenotype/`: one row per person and visit of the study, with totals that can be used."""
    problems = []
    for name, scale in study.scales.items():
        path = f"phenotype/{scale.table or name}.tsv"
        keys = ["participant_id", *(["session_id"] if study.sessions else [])]
        keys += [scale.repeats] if scale.repeats else []
        try:
            table = read_table(root / path, required=list(dict.fromkeys([*keys, *needed_columns(scale)])))
        except FileNotFoundError:
            what, fix = f"the table of scales.{name} is missing", f"add it, or delete scales.{name}"
            problems.append(Problem("STOP", "E-BIDS-B16", what, fix, path))
            continue
        except ValueError as error:
            what, fix = explained(error, root / path, path, f"correct the table, or delete scales.{name}")
            problems.append(Problem("STOP", "E-BIDS-A11", what, fix, path))
            continue
        met = who_meets(table, path, people, [session.id for session in study.sessions])
        if table.empty:
            what = "it has no row, so the scale would have no value"
            met.append(Problem("STOP", "E-BIDS-B16", what, f"fill it, or delete scales.{name}", path))
        elif not met:
            met += _without_rows(table, path, people, [session.id for session in study.sessions])
        found = twice([" ".join(map(str, row)) for row in table[keys].to_numpy()], path)
        problems += met + found
        if not (found or any(item.severity == "STOP" for item in met)):
            problems += _scored(table, name, scale, path)
    return problems


def _scored(table: pd.DataFrame, name: str, scale: Scale, path: str) -> list[Problem]:
    """One problem per row and reason, however many scores it concerns."""
    found = {
        (one.participant_id, one.session_id, one.place, one.why): Problem(
            "WARN" if one.code.startswith("W-") else "EXCL",
            one.code,
            one.why.what,
            one.why.fix,
            path,
            one.participant_id,
            one.session_id,
        )
        for one in score_scale(table, name, scale)[1]
        if not one.why.absent
    }
    return list(found.values())


def who_meets(table: pd.DataFrame, path: str, people: Iterable[str], sessions: list[str]) -> list[Problem]:
    """Ids and visits of a table that the study does not have: another spelling stops, a stranger is named."""
    pairs = [("participant_id", [plain_id(cell) for cell in table["participant_id"]], list(people))]
    if sessions:
        pairs.append(("session_id", [plain_visit(cell) for cell in table["session_id"]], sessions))
    problems = []
    for column, cells, known in pairs:
        strangers = [cell for cell in dict.fromkeys(cells) if cell not in known]
        spelt = {cell: own for cell in strangers for own in known if _bare(cell) == _bare(own)}
        for cell, own in spelt.items():
            what = f"{column} {cell!r} meets nobody; the study has {own!r}"
            fix = "write it as in the study"
            problems.append(Problem("STOP", SPELLING_CODE, what, fix, path))
        others = [cell for cell in strangers if cell not in spelt]
        if others and len(others) == len(set(cells)):
            what = f"no {column} is of the study: it has {others[:3]}, the study {known[:3]}"
            problems.append(
                Problem("STOP", SPELLING_CODE, what, f"write the column {column} as in the study", path)
            )
            continue
        problems += [_stranger(column, cell, cells.count(cell), path) for cell in others]
    return problems


def _without_rows(
    table: pd.DataFrame, path: str, people: Iterable[str], sessions: list[str]
) -> list[Problem]:
    """People and visits of the study that a scale has no row of."""
    pairs = [("participant_id", {plain_id(cell) for cell in table["participant_id"]}, list(people))]
    if sessions:
        pairs.append(("session_id", {plain_visit(cell) for cell in table["session_id"]}, sessions))
    problems = []
    for column, cells, known in pairs:
        if without := [own for own in known if own not in cells]:
            what = f"no row has the {column} {first_of(map(repr, without))}, which the study has"
            fix = "no action is needed if the scale was not asked there; else add the rows"
            problems.append(Problem("WARN", NOBODY, what, fix, path))
    return problems


def _bare(label: str) -> str:
    """A label without its prefix, however that is written, and without what differs between spellings."""
    return re.sub(r"^((sub|ses)-\s*)+", "", essence(label))


def _stranger(column: str, cell: str, n_rows: int, path: str) -> Problem:
    rows = f"{n_rows} row{'s' * (n_rows > 1)}"
    what = f"{column} {cell!r} ({rows}) meets nobody in the study and counts for nothing"
    return Problem("WARN", NOBODY, what, "no action is needed if that is right; else correct it", path)
