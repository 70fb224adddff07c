"""The flow of participants as a CONSORT 2025 diagram: SVG text, so that a reader can select and search it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

import pandas as pd

WIDTH, GAP, PAD, LINE = 1000, 26, 14, 21  # of the drawing, between boxes, within them, of a line of text
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
INK, MUTED, LOST, EDGE = "#1f2730", "#5d6873", "#b3261e", "#8a96a3"
COLOURS = ("#1b5e9e", "#12807a", "#7553a6", "#5f6b12", "#8a4b3c")  # of the active arms
OF_CONTROL = "#a85c12"  # darker than in figures: it is the colour of text
CHARACTERS = 7.3  # width of one, on average, at 14 px
NAMES = {
    "expected": "Expected",
    "acquired": "Scan acquired",
    "readable": "Readable",
    "passed": "Passed quality",
    "modelled": "With the primary outcome",
}


@dataclass(frozen=True)
class Box:
    """A box: its heading, its lines, and the lines that tell of losses (by their place among the lines)."""

    heading: str
    lines: tuple[str, ...] = ()
    losses: frozenset[int] = frozenset()
    colour: str = INK

    def height(self, width: float) -> float:
        """Height in px at a width."""
        return 2 * PAD + LINE * len(list(self.wrapped(width)))

    def wrapped(self, width: float) -> Iterator[tuple[str, str]]:
        """Yield each line of text that fits the width, with its kind: heading, count or loss."""
        room = int((width - 2 * PAD) / CHARACTERS)
        for line in textwrap.wrap(self.heading, room - 3) or [""]:
            yield line, "heading"
        for place, line in enumerate(self.lines):
            kind = "loss" if place in self.losses else "count"
            for part in textwrap.wrap(line, room - (3 if kind == "loss" else 0)):
                yield part, kind


@dataclass
class Drawing:
    """What was drawn so far, and down to where."""

    parts: list[str] = field(default_factory=list)
    bottom: float = 4.0

    def box(self, box: Box, left: float, top: float, width: float, height: float = 0.0) -> float:
        """Draw a box and return its lower edge."""
        height = max(height, box.height(width))
        self.parts.append(
            f'<rect x="{left:g}" y="{top:g}" width="{width:g}" height="{height:g}" rx="5" fill="#ffffff" '
            f'stroke="{EDGE}"/>'
        )
        baseline = top + PAD + 15
        for text, kind in box.wrapped(width):
            shade = {"heading": box.colour, "count": INK, "loss": LOST}[kind]
            weight = ' font-weight="600"' if kind == "heading" else ""
            indent = 22 if kind == "loss" else 0
            place = f'x="{left + PAD + indent:g}" y="{baseline:g}"'
            self.parts.append(f'<text {place} fill="{shade}"{weight}>{escape(text)}</text>')
            baseline += LINE
        self.bottom = max(self.bottom, top + height)
        return top + height

    def line(self, *points: tuple[float, float]) -> None:
        """Draw a line through points, with an arrow at its end."""
        path = " L ".join(f"{x:g} {y:g}" for x, y in points)
        (x, y), (before_x, _) = points[-1], points[-2]
        head = f"M {x - 6:g} {y - 4:g} L {x:g} {y:g} L {x - 6:g} {y + 4:g}"
        if before_x == x:
            head = f"M {x - 4:g} {y - 6:g} L {x:g} {y:g} L {x + 4:g} {y - 6:g}"
        self.parts.append(f'<path d="M {path} {head}" fill="none" stroke="{EDGE}"/>')


def flow_diagram(
    flow: pd.DataFrame, *, arms: Sequence[str], sessions: Mapping[str, str], outcome: str | None, label: str
) -> str:
    """Return the diagram as one SVG element.

    `flow` is of `trial.flow.FLOW`; `arms` those that are compared, in their order, or the one group of all;
    `sessions`: label -> name, in order; `outcome` with its `label`: the primary one. Every text is escaped.
    """
    drawing = Drawing()
    columns = _columns(len(arms))
    top = _enrolment(drawing, flow, arms, columns)
    for session, name in sessions.items():
        boxes = [
            _visit(flow, arm, session, name, outcome, _colour(place, arms)) for place, arm in enumerate(arms)
        ]
        if not any(box.lines for box in boxes):
            continue
        height = max(box.height(columns[0][1]) for box in boxes)
        for box, (left, width) in zip(boxes, columns, strict=True):
            middle = left + width / 2
            drawing.line((middle, top), (middle, top + GAP))
            drawing.box(box, left, top + GAP, width, height)
        top += GAP + height
    return _svg(drawing, _said(flow, arms, sessions, outcome, label))


def _colour(place: int, arms: Sequence[str]) -> str:
    """The colour of an arm by its place, active arms first; one group of all has ink."""
    if len(arms) == 1:
        return INK
    return OF_CONTROL if place == len(arms) - 1 else COLOURS[place]


def _columns(count: int) -> list[tuple[float, float]]:
    """Left edge and width of each arm's column."""
    if count == 1:
        return [(WIDTH * 0.22, WIDTH * 0.56)]
    width = (WIDTH - GAP * (count - 1)) / count
    return [(place * (width + GAP) + 1, width - 2) for place in range(count)]


def _enrolment(
    drawing: Drawing, flow: pd.DataFrame, arms: Sequence[str], columns: list[tuple[float, float]]
) -> float:
    """Draw what comes before the visits and return where it ends, in every column."""
    boxes = flow[flow["code"].isna()]
    middle, width = WIDTH * 0.5, WIDTH * 0.34
    screened = Box(f"Screened (n = {_people(boxes, stage='screened')})")
    bottom = drawing.box(screened, middle - width / 2, 4, width)
    randomised = boxes[boxes["stage"] == "randomised"]
    if randomised.empty:
        return bottom
    side = _losses(flow[(flow["stage"] == "randomised") | _not_compared(flow, arms)])
    if side:
        lost = Box("Not randomised, or not compared", tuple(side), frozenset(range(len(side))))
        left = middle + GAP
        below = drawing.box(lost, left, bottom + GAP / 2, WIDTH - left - 2)
        drawing.line((middle, (bottom + below) / 2), (left, (bottom + below) / 2))
        bottom, start = below + GAP / 2, bottom
        drawing.line((middle, start), (middle, bottom))
    else:
        drawing.line((middle, bottom), (middle, bottom + GAP))
        bottom += GAP
    bottom = drawing.box(
        Box(f"Randomised (n = {randomised['people'].sum()})"), middle - width / 2, bottom, width
    )
    allocated = [_allocated(flow, arm, _colour(place, arms)) for place, arm in enumerate(arms)]
    height = max(box.height(columns[0][1]) for box in allocated)
    for box, (left, wide) in zip(allocated, columns, strict=True):
        centre = left + wide / 2
        drawing.line(
            (middle, bottom), (middle, bottom + GAP / 2), (centre, bottom + GAP / 2), (centre, bottom + GAP)
        )
        drawing.box(box, left, bottom + GAP, wide, height)
    return bottom + GAP + height


def _not_compared(flow: pd.DataFrame, arms: Sequence[str]) -> pd.Series:
    return (flow["stage"] == "expected") & flow["code"].notna() & ~flow["arm"].isin(list(arms))


def _allocated(flow: pd.DataFrame, arm: str, colour: str) -> Box:
    boxes = flow[flow["code"].isna()]
    heading = f"Allocated to {arm} (n = {_people(boxes, stage='randomised', arm=arm)})"
    if boxes[(boxes["stage"] == "treated") & (boxes["arm"] == arm)].empty:
        return Box(heading, ("Who received the treatment is not recorded",), colour=colour)
    lost = _losses(flow[(flow["stage"] == "treated") & (flow["arm"] == arm)])
    received = f"Received the treatment (n = {_people(boxes, stage='treated', arm=arm)})"
    return Box(heading, (received, *lost), frozenset(range(1, 1 + len(lost))), colour)


def _visit(flow: pd.DataFrame, arm: str, session: str, name: str, outcome: str | None, colour: str) -> Box:
    """One arm at one visit: every station of each task's scans, then of the primary outcome."""
    mine = flow[(flow["arm"] == arm) & (flow["session"].fillna("n/a") == session)]
    scans = mine[mine["outcome"].isna() & mine["task"].notna()]
    tasks = list(dict.fromkeys(scans["task"]))
    lines: list[str] = []
    losses: set[int] = set()
    for task in tasks:
        lines += [f"Task {task}"] if len(tasks) > 1 else []
        _add(lines, losses, scans[scans["task"] == task], ("expected", "acquired", "readable", "passed"))
    _add(lines, losses, mine[mine["outcome"] == outcome], ("modelled",))
    return Box(name, tuple(lines), frozenset(losses), colour)


def _add(lines: list[str], losses: set[int], rows: pd.DataFrame, stages: Sequence[str]) -> None:
    for stage in stages:
        here = rows[rows["stage"] == stage]
        box = here[here["code"].isna()]
        if box.empty:
            continue
        people, scans = int(box["people"].iloc[0]), box["scans"].iloc[0]
        more = f", {scans:.0f} scans" if scans == scans and scans != people else ""
        lines.append(f"{NAMES[stage]} (n = {people}{more})")
        lost = _losses(here)
        losses |= set(range(len(lines), len(lines) + len(lost)))
        lines += lost


def _losses(rows: pd.DataFrame) -> list[str]:
    """Every loss as a line: how many, why, and the code; one line per code."""
    lost = rows[rows["code"].notna()]
    counts = lost.groupby("code", sort=False)["people"].sum()
    reasons = dict(zip(lost["code"], lost["reason"], strict=True))
    return [f"{count} lost: {reasons[code]} ({code})" for code, count in counts.items()]


def _people(boxes: pd.DataFrame, **cells: str) -> int:
    hit = pd.Series(True, index=boxes.index)
    for name, cell in cells.items():
        hit &= boxes[name] == cell
    return int(boxes.loc[hit, "people"].sum())


def _said(
    flow: pd.DataFrame, arms: Sequence[str], sessions: Mapping[str, str], outcome: str | None, label: str
) -> str:
    """The diagram in sentences, for who cannot see it."""
    boxes = flow[flow["code"].isna()]
    said = [f"Flow of participants and scans: {_people(boxes, stage='screened')} people screened"]
    if (boxes["stage"] == "randomised").any():
        said.append(f"{_people(boxes, stage='randomised')} randomised")
    for arm in arms:
        for session, name in sessions.items():
            here = boxes[(boxes["arm"] == arm) & (boxes["session"].fillna("n/a") == session)]
            passed = here[(here["stage"] == "passed")]["people"]
            modelled = here[(here["stage"] == "modelled") & (here["outcome"] == outcome)]["people"]
            parts = [f"{int(passed.iloc[0])} with a scan that passed"] if len(passed) else []
            parts += [f"{int(modelled.iloc[0])} with {label}"] if len(modelled) else []
            said += [f"{arm}, {name}: {' and '.join(parts)}"] if parts else []
    return "; ".join(said) + "."


def _svg(drawing: Drawing, said: str) -> str:
    height = drawing.bottom + 4
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="consort" viewBox="0 0 {WIDTH} {height:g}" '
        f'role="img" aria-label="{escape(said)}" font-family="{escape(FONT)}" font-size="14">'
        + "\n".join(drawing.parts)
        + "</svg>"
    )
