"""What `make validate` simulates: covariances, people, visits, and departures from the model."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from reconfmri.simulate.measures import Truth, covariances

PEOPLE = ((14, 13), (8, 8), (9, 18), (40, 40))  # active and control arm
VISITS = (2, 3, 4, 5, 6, 7, 8)
MANY_VISITS = ("autoregressive", "growing")  # covariances that are also tried over other numbers of visits
STANDARD = 4
LEAVING = (0.0, 0.04, 0.10, 0.17)  # where leaving goes by the last value: see docs/calibration.md
SHOWN = "; shown"  # of a scenario that shows what a setting costs
UNEVEN = "variance 3:1, SD by arm"
COMMON = f"variance 3:1, common SD{SHOWN}"
BY_LAST = "missing by the last value"


@dataclass(frozen=True)
class NotClaimed:
    """Cells that are shown and not judged; docs/calibration.md says the same in the same words."""

    method: str  # as in the results
    engines: tuple[str, ...]  # of `validate`
    scenario: str  # how the names of the scenarios start
    why: str
    estimands: tuple[str, ...] = ()  # none: all


# What analysis of covariance answers; Welch's test answers the others.
ADJUSTED = ("difference_adjusted", "difference_average")
ONE_SPREAD = "one spread stands for both arms"
BIASED = "those who stay are not those who were randomised: biased by design"
NOT_CLAIMED = (
    NotClaimed("reml", ("reml",), COMMON, f"{ONE_SPREAD}; `spread: by_arm` is for them"),
    NotClaimed("bayes", ("bayes",), COMMON, f"{ONE_SPREAD}; `spread: by_arm` is for them"),
    *(
        NotClaimed("ancova", ("ancova, welch",), name, f"{ONE_SPREAD}; `ancova_hc2` is for them", ADJUSTED)
        for name in (f"{UNEVEN}, 9/18", f"{COMMON}, 9/18")
    ),
    NotClaimed("ancova, ancova_hc2, welch", ("ancova, welch", "ancova_hc2"), BY_LAST, BIASED),
)


@dataclass(frozen=True)
class Scenario:
    """A truth and the keys of `group` that the study declares."""

    truth: Truth
    settings: dict[str, str] = field(default_factory=dict)


def effects(n_visits: int) -> np.ndarray:
    """Return the planted difference per visit, (n_visits,): none at baseline, then from -0.8 to -0.5."""
    return along(n_visits, (-0.8, -0.7, -0.5))


def missing(n_visits: int) -> np.ndarray:
    """Return the share who have left at each visit, (n_visits,): from 7 to 33 %; of two visits 33 %."""
    return along(n_visits, (0.07, 0.20, 0.33) if n_visits > 2 else (0.33,))


def along(n_visits: int, later: tuple[float, ...]) -> np.ndarray:
    """Return zero at baseline and then numbers that run through `later`."""
    places = np.interp(np.linspace(0, 1, n_visits - 1), np.linspace(0, 1, len(later)), later)
    return np.concatenate([[0.0], places])


def truth_of(covariance: str, n_visits: int, people: tuple[int, int]) -> Truth:
    """Return the truth of a scenario whose model is true."""
    return Truth(
        covariances(n_visits)[covariance],
        effects(n_visits),
        np.zeros(n_visits),
        missing(n_visits),
        n_active=people[0],
        n_control=people[1],
    )


def scenarios() -> dict[str, Scenario]:
    """Return name -> scenario: four covariances over four visits, two over others, departures; all sizes."""
    found: dict[str, Scenario] = {}
    for people in PEOPLE:
        end = f", {people[0]}/{people[1]}"
        for n_visits in (STANDARD, *(n for n in VISITS if n != STANDARD)):
            for name in covariances(n_visits):
                if n_visits == STANDARD or name in MANY_VISITS:
                    truth = truth_of(name, n_visits, people)
                    found[f"{name}, {n_visits} visits{end}"] = Scenario(truth)
        for name, scenario in departures(people).items():
            found[f"{name}{end}"] = scenario
    null = replace(truth_of("reference", STANDARD, PEOPLE[0]), difference=np.zeros(STANDARD))
    return found | {"reference, no effect, 14/13": Scenario(null)}


def departures(people: tuple[int, int]) -> dict[str, Scenario]:
    """Return name -> scenario of four visits in which something is not as the default model has it."""
    like = truth_of("reference", STANDARD, people)
    uneven = replace(like, spread_active=3**0.5)
    return {
        UNEVEN: Scenario(uneven, {"spread": "by_arm"}),
        COMMON: Scenario(uneven),
        "exponential residuals": Scenario(replace(like, exponential=True)),
        "floor": Scenario(replace(like, floor=-1.0)),
        BY_LAST: Scenario(replace(like, missing_by_last=2.0, missing=np.array(LEAVING))),
    }
