"""What is planted: the design of the trial, its effects, and how people and visits differ.

Brain amplitudes are percent signal change at the source (100 x change / the voxel's own baseline) per
response of height 1; couplings are Fisher z of the sources' fluctuations; skin conductance is ln(1 + µS);
scales are points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

ARMS = ("ketamine", "midazolam")  # active, control
# Active arms, then the control, with the share of the planted effect that each has: three arms are two doses.
DESIGNS = {
    2: {ARMS[0]: 1.0, ARMS[1]: 0.0},
    3: {"ketamine_0.2": 0.4, "ketamine_0.5": 1.0, ARMS[1]: 0.0},
}
SHARES = {arm: share for design in DESIGNS.values() for arm, share in design.items()}
SESSIONS = ("1", "2", "3", "4")  # baseline, end of treatment, 30 days, 90 days
# Share of visits that go missing, in active arms and in the control arm.
MISSING_ACTIVE, MISSING_CONTROL = (0.0, 0.05, 0.1, 0.25), (0.0, 0.1, 0.25, 0.45)

# Order, onset and duration (s) of the scripts of the reference trial.
SCRIPTS = (
    ("trauma", 16.0, 122.2),
    ("relax", 143.2, 115.8),
    ("sad", 263.4, 122.8),
    ("relax", 391.1, 115.8),
    ("trauma", 511.2, 122.2),
    ("sad", 642.5, 122.8),
    ("relax", 769.4, 115.8),
    ("trauma", 889.3, 122.2),
    ("sad", 1015.6, 122.8),
)
SHORTENED, FIRST_ONSET = 5.0, 8.0  # short timing: all times divided by 5, the first script at 8 s
HABITUATION = 0.85  # each repetition of a script type evokes this share of the one before

# Answer to the first script of each type at baseline.
ANSWERS = {
    "amygdala": {"trauma": 2.0, "sad": 0.9, "relax": 0.4},
    "hippocampus": {"trauma": 1.5, "sad": 0.8, "relax": 0.5},
    "vmpfc": {"trauma": 0.3, "sad": 0.4, "relax": 0.6},
    "occipital": {"trauma": 0.8, "sad": 0.7, "relax": 0.6},
}
SKIN_ANSWERS = {"trauma": 1.1, "sad": 0.6, "relax": 0.5}
SCALES = {"pcl5": 50.0, "caps5": 38.0}
COUPLINGS = {("amygdala", "hippocampus"): 0.7, ("hippocampus", "vmpfc"): 0.5, ("amygdala", "vmpfc"): 0.3}

# All arms change alike at sessions 2, 3, 4 ...
COMMON_CHANGE = {
    "amygdala": (-0.1, -0.15, -0.15),
    "hippocampus": (-0.1, -0.1, -0.1),
    "scr": (-0.1, -0.15, -0.15),
    "pcl5": (-12.0, -14.0, -13.0),
    "caps5": (-9.0, -11.0, -10.0),
}
# ... and this is what the active drug adds (to the trauma scripts, in the brain and the skin). Nothing
# elsewhere: occipital pole, vmPFC's answer and amygdala-vmPFC coupling are planted equal in all arms.
EFFECTS = {
    "amygdala": (-2.2, -1.9, -1.6),
    "hippocampus": (-1.4, -1.2, -1.0),
    "amygdala-hippocampus": (-0.5, -0.45, -0.4),
    "hippocampus-vmpfc": (-0.4, -0.35, -0.3),
    "scr": (-0.7, -0.6, -0.5),
    "pcl5": (-9.0, -8.0, -7.0),
    "caps5": (-7.0, -6.0, -5.0),
}

# Standard deviations: of people (all their visits), and of one visit of a person.
GAIN_SD = 0.15  # a person's answer to every script of a region, in percent; cancels in every contrast
PERSON_SD = {"brain": 0.12, "coupling": 0.08, "scr": 0.15, "pcl5": 6.0, "caps5": 5.0}
SESSION_SD = {"brain": 0.08, "coupling": 0.05, "scr": 0.10, "pcl5": 3.0, "caps5": 2.5}


@dataclass(frozen=True)
class Timing:
    """Scripts as (trial_type, onset, duration), s, with the acquisition that fits them."""

    scripts: tuple[tuple[str, float, float], ...]
    tr: float
    n_volumes: int
    n_rest_volumes: int


def timing_of(name: str) -> Timing:
    """Return the timing `short` (demo: 24 s scripts, TR 2 s) or `full` (120 s scripts, TR 1 s).

    Raises
    ------
    ValueError
        There is no such timing.
    """
    if name == "full":
        return Timing(SCRIPTS, tr=1.0, n_volumes=1160, n_rest_volumes=480)
    if name == "short":
        shift = FIRST_ONSET - SCRIPTS[0][1] / SHORTENED
        scripts = tuple(
            (kind, round(o / SHORTENED + shift, 2), round(d / SHORTENED, 2)) for kind, o, d in SCRIPTS
        )
        return Timing(scripts, tr=2.0, n_volumes=120, n_rest_volumes=120)
    raise ValueError(f"timing must be 'short' or 'full', got {name!r}")


@dataclass(frozen=True)
class Person:
    """A participant, the arm, the visits that took place, and the person's own deviations."""

    label: str
    age: int
    sex: str
    arm: str
    sessions: tuple[str, ...]
    deviations: dict[str, float]


@dataclass(frozen=True)
class Visit:
    """What is true of one person at one visit."""

    answers: dict[str, npt.NDArray[np.float64]]  # region -> percent signal change per script, in order
    couplings: dict[tuple[str, str], float]  # Fisher z
    skin: npt.NDArray[np.float64]  # ln(1 + µS) per script, in order
    scales: dict[str, float]  # points


def draw_people(
    participants: int, seed: int, *, sessions: Sequence[str] = SESSIONS, arms: int = 2
) -> list[Person]:
    """Return the participants: arms of equal size, balanced within each sex, with their missing visits.

    Of the visits only those of `sessions` take place.

    Raises
    ------
    ValueError
        Fewer than four participants, no baseline among the sessions, or so many arms are not planted.
    """
    if arms not in DESIGNS:
        raise ValueError(f"a trial of {arms} arms is not planted, only of {list(DESIGNS)}")
    if participants < 4:
        raise ValueError(f"a trial needs at least 4 participants, got {participants}")
    if not set(sessions) <= set(SESSIONS) or SESSIONS[0] not in sessions:
        raise ValueError(f"sessions must be some of {list(SESSIONS)} with the first, got {list(sessions)}")
    rng = np.random.default_rng([seed, 0])
    sexes = rng.permutation(["female", "male"] * ((participants + 1) // 2))[:participants]
    names = list(DESIGNS[arms])
    drawn = np.empty(participants, dtype=object)
    offset = int(rng.integers(2))
    for sex in ("female", "male"):
        members = rng.permutation(np.flatnonzero(sexes == sex))
        drawn[members] = [names[(offset + k) % arms] for k in range(len(members))]
        offset += len(members) % arms
    visits = [
        tuple(session for session in attended if session in sessions) for attended in _draw_visits(drawn, rng)
    ]
    width = max(2, len(str(participants)))
    return [
        Person(
            f"{k + 1:0{width}d}",
            int(rng.integers(21, 61)),
            str(sexes[k]),
            str(drawn[k]),
            visits[k],
            _deviate(rng),
        )
        for k in range(participants)
    ]


def _draw_visits(arms: npt.NDArray[np.object_], rng: np.random.Generator) -> list[tuple[str, ...]]:
    """The declared share of each arm's later visits goes missing, mostly of people who missed one before."""
    present = np.ones((len(arms), len(SESSIONS)), dtype=bool)
    for arm in [arm for arm in SHARES if (arms == arm).any()]:
        shares = MISSING_ACTIVE if SHARES[arm] else MISSING_CONTROL
        members = rng.permutation(np.flatnonzero(arms == arm))
        for session, share in enumerate(shares):
            gone = int(np.floor(share * len(members) + 0.5))
            late = rng.random(len(members)) * 0.5 + np.arange(len(members)) / len(members)
            present[members[np.argsort(late)[:gone]], session] = False
    return [tuple(s for s, there in zip(SESSIONS, row, strict=True) if there) for row in present]


def _deviate(rng: np.random.Generator) -> dict[str, float]:
    """A person's standard normal deviations, one per quantity."""
    names = _quantities()
    return dict(zip(names, map(float, rng.standard_normal(len(names))), strict=True))


def _quantities() -> list[str]:
    return [*(f"gain {r}" for r in ANSWERS), *ANSWERS, *map("-".join, COUPLINGS), "scr", *SCALES]


def mean_visit(arm: str, session: str, timing: Timing) -> Visit:
    """Return the population's visit of an arm: no person, no visit deviates."""
    average = Person("0", 0, "", arm, SESSIONS, dict.fromkeys(_quantities(), 0.0))
    return draw_visit(average, session, timing, None)


def draw_visit(person: Person, session: str, timing: Timing, rng: np.random.Generator | None) -> Visit:
    """Return what is true of a person at a visit: population, arm x session effect, deviations of both.

    Without a generator the visit itself does not deviate.
    """
    kinds = [kind for kind, _, _ in timing.scripts]
    answers = {}
    for region, means in ANSWERS.items():
        gain = GAIN_SD * person.deviations[f"gain {region}"]
        first = {kind: mean + gain for kind, mean in means.items()}
        first["trauma"] += _shift(region, "brain", person, session, rng)
        answers[region] = _habituated(kinds, first)
    skin = dict(SKIN_ANSWERS)
    skin["trauma"] += _shift("scr", "scr", person, session, rng)
    couplings = {
        pair: mean + _shift("-".join(pair), "coupling", person, session, rng)
        for pair, mean in COUPLINGS.items()
    }
    scales = {name: mean + _shift(name, name, person, session, rng) for name, mean in SCALES.items()}
    return Visit(answers, couplings, np.maximum(_habituated(kinds, skin), 0.02), scales)


def _shift(name: str, kind: str, person: Person, session: str, rng: np.random.Generator | None) -> float:
    """Deviation of a quantity from its baseline mean: common change, effect, person, visit."""
    common, effect = planted_change(name, session)
    own = PERSON_SD[kind] * person.deviations[name]
    if rng is not None:
        own += SESSION_SD[kind] * float(rng.standard_normal())
    return common + SHARES[person.arm] * effect + own


def planted_change(name: str, session: str) -> tuple[float, float]:
    """Return the change that all arms share and what the active drug at its full dose adds, at a session."""
    later = SESSIONS.index(session) - 1
    if later < 0:
        return 0.0, 0.0
    return COMMON_CHANGE.get(name, (0.0,) * 3)[later], EFFECTS.get(name, (0.0,) * 3)[later]


def _habituated(kinds: list[str], first: dict[str, float]) -> npt.NDArray[np.float64]:
    """Return the answer per script: each repetition of a type evokes `HABITUATION` of the one before."""
    seen = dict.fromkeys(first, 0)
    values = []
    for kind in kinds:
        values.append(first[kind] * HABITUATION ** seen[kind])
        seen[kind] += 1
    return np.array(values)
