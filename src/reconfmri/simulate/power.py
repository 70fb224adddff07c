"""The power of the simulated trial's primary question, computed from what is planted, before any run."""

from __future__ import annotations

import math
from dataclasses import dataclass

from reconfmri.simulate import planted

# What a scan of the short timing adds to a person's true value, percent signal change: the SD of the estimate
# minus psc_expected of amygdala.trauma_first-neutral_first, in trials of other seeds (`make recover`).
FIRST_LEVEL_SE = 0.28
RECOVERY = 0.65  # of the amygdala's own source in its region at 4 mm voxels, a 3 mm grid (truth.json)
SPILL = 0.05  # of the hippocampus's source in the amygdala's region


@dataclass(frozen=True)
class Power:
    """How likely the primary question is answered at a level, and from what that follows."""

    difference: float  # percent signal change, expected scale
    sd: float  # between people of one arm at one visit, all sources of variance
    correlation: float  # of baseline and visit within an arm
    standard_error: float  # of the baseline-adjusted difference
    df: int
    power: float


def primary_power(*, n_active: int = 4, n_control: int = 4, session: str = "2", level: float = 0.95) -> Power:
    """Return the power for the arm difference of the amygdala's first answer, adjusted for baseline.

    Analysis of covariance: the difference has variance s^2 (1 - r^2) (1/n1 + 1/n2) (N - 3) / (N - 4), the
    last factor for the covariate's chance imbalance, and N - 3 degrees of freedom; power is that of the
    two-sided noncentral t.

    Raises
    ------
    ValueError
        Fewer than five people in all.
    """
    people = n_active + n_control
    if people < 5:
        raise ValueError(f"an adjusted difference needs at least 5 people, got {people}")
    effect = RECOVERY * planted.planted_change("amygdala", session)[1]
    effect += SPILL * planted.planted_change("hippocampus", session)[1]
    seen = math.hypot(RECOVERY, SPILL)
    person, visit = seen * planted.PERSON_SD["brain"], seen * planted.SESSION_SD["brain"]
    variance = person**2 + visit**2 + FIRST_LEVEL_SE**2
    correlation = person**2 / variance
    error = variance * (1 - correlation**2) * (1 / n_active + 1 / n_control) * (people - 3) / (people - 4)
    df = people - 3
    power = _two_sided(effect / math.sqrt(error), df, level)
    return Power(effect, math.sqrt(variance), correlation, math.sqrt(error), df, power)


def _two_sided(shift: float, df: int, level: float) -> float:
    """Return the chance that |t| with noncentrality `shift` exceeds its critical value."""
    from scipy.stats import nct, t

    critical = float(t.ppf(0.5 + level / 2, df))
    return float(nct.sf(critical, df, abs(shift)) + nct.cdf(-critical, df, abs(shift)))
