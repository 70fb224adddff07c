"""The front page: one estimate with its interval, and one sentence that reconciles the other methods."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from tests.test_cautions import NAMES, SESSIONS, UNIT, make_group

from reconfmri.config import Trial
from reconfmri.figures.labels import number_with_ends
from reconfmri.report import Compared
from reconfmri.report.answer import primary_answer

EIGHT = pd.DataFrame(
    {
        "participant_id": [f"sub-{n:02d}" for n in range(8)],
        "arm": ["ketamine", "midazolam"] * 4,
        "stratum": ["f"] * 4 + ["m"] * 4,
    }
)


def front(rows: dict[str, tuple], allocation=EIGHT, status: str = "ok"):
    """The front of a trial; method -> estimate, lower, upper and p, or None where it has none."""
    group = make_group()
    primary = group.primary
    start = {
        "outcome": primary.outcome, "session": primary.session, "estimand": primary.estimand, "unit": UNIT,
        "is_primary": True, "n_active": 4.0, "n_control": 4.0, "level": 0.95, "sd": 0.1, "probability": 0.98,
    }  # fmt: skip
    table = pd.DataFrame(
        [
            start
            | {
                "method": name,
                "reported": found is not None,
                "status": status if found else "not reported: why. Fix: x",
            }
            | dict(zip(("estimate", "lower", "upper", "p"), found or [math.nan] * 4, strict=True))
            for name, found in rows.items()
        ]
    )
    trial = Trial("t", "q", 1, group, {name: name for name in SESSIONS}, {}, dict.fromkeys(NAMES, UNIT), {})
    measures = pd.DataFrame({"participant_id": EIGHT["participant_id"]})
    return primary_answer(
        trial, Compared(measures=measures, allocation=allocation, tables={"estimates": table})
    )


BAYES = (-0.41, -0.69, -0.14, math.nan)
LIKE = (-0.40, -0.70, -0.10, 0.012)


def test_few_allocations_are_explained_and_no_endless_interval_is_shown():
    found = front(
        {"bayes": BAYES, "reml": LIKE, "ancova": LIKE, "randomisation": (-0.39, -np.inf, np.inf, 0.0583)}
    )
    assert (
        "REML, ANCOVA and randomisation test estimate the same direction (−0.40 to −0.39 percent signal "
        "change), and the intervals of REML and ANCOVA exclude zero as well; with 36 possible "
        "allocations the p of a randomisation test cannot be below 0.056 (it is 0.058), so "
        "that it bounds no 95 % interval and contradicts none."
    ) in found["reading"]
    assert [fact["name"] for fact in found["facts"]] == [
        "Estimate", "95 % interval", "P(difference < 0)", "n"
    ]  # fmt: skip
    assert "∞" not in str(found)
    assert found["reading"].startswith(
        "The estimate is lower in the ketamine arm; its 95 % interval excludes"
    )


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ({"reml": LIKE}, "REML estimates the same direction (−0.40 percent signal change), and the "
         "interval of REML excludes zero as well."),
        ({"reml": (-0.3, -0.7, 0.1, 0.09), "ancova": LIKE}, "estimate the same direction (−0.40 to −0.30 "
         "percent signal change), but the interval of REML contains zero, which this one excludes."),
        ({"reml": (0.1, -0.3, 0.5, 0.6), "ancova": LIKE}, "REML estimates the opposite direction, ANCOVA "
         "the same, but the interval of REML contains zero"),
        ({"reml": None, "ancova": LIKE}, "; REML gave no estimate (why. Fix: x)."),
        ({}, "excludes zero."),
    ],
)  # fmt: skip
def test_agreement_and_disagreement_are_said(others, said):
    found = front({"bayes": BAYES, **others})
    assert said in found["reading"]
    assert found["reading"].endswith(".")


def test_a_withheld_primary_estimate_gives_its_reason_and_no_other_number():
    found = front({"bayes": None, "reml": LIKE})
    assert found["withheld"]
    assert found["facts"][0]["detail"] == "not reported: why. Fix: x"
    assert "0.40" not in str(found)


def test_an_endless_interval_is_said_in_words_in_every_table():
    row = {"estimate": 0.5, "lower": -math.inf, "upper": math.inf, "unit": UNIT}
    assert number_with_ends(row) == "0.50 (no bounded interval)"
    assert number_with_ends(row | {"lower": 0.1}) == "0.50 [0.10, ∞]"
