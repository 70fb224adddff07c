"""Time to the first response and to relapse after it, in visits of the trial.

Events are known at visits alone, so that time is the visit: Kaplan and Meier's curve steps there, and the
partial likelihood depends on their order. People are censored at the last visit at which
their response was known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import norm

from reconfmri.contracts.questions.responders import COURSE, HAZARDS
from reconfmri.group.asked import Asked
from reconfmri.group.estimands import Array, NotEstimableError, answered, withheld
from reconfmri.group.mixtures import shares
from reconfmri.group.responders import Response, responses

FEWEST = 1  # events in each arm, for an estimate without a prior


@dataclass(frozen=True)
class Times:
    """Visit of the event or of the last sight (1 is the first later one), and whether it was the event."""

    times: NDArray[np.int_]
    happened: NDArray[np.bool_]
    active: NDArray[np.bool_]
    strata: tuple[str, ...]


def estimate(asked: Asked) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the curves of both arms, and the hazard ratios, of every rule and event.

    Raises
    ------
    ValueError
        The allocation does not fit the study.
    """
    curves: list[dict[str, object]] = []
    ratios: list[dict[str, object]] = []
    drug, control = asked.group.arms.pair
    for response in responses(asked) if len(asked.labels) > 1 else ():
        for event, times in (("response", first_response(response)), ("relapse", relapse(response))):
            start: dict[str, object] = {
                "responder": response.name,
                "outcome": response.rule.outcome,
                "rule": response.rule.words,
                "event": event,
                "level": asked.group.level,
            }
            for arm, side in ((drug, times.active), (control, ~times.active)):
                steps = curve(times.times[side], times.happened[side], response.sessions, asked.group.level)
                curves += [start | {"arm": arm} | step for step in steps]
            ratios += [start | row for row in _ratios(times, response.rule.prior_sd, asked.group.level)]
    return COURSE.frame(curves), HAZARDS.frame(ratios)


def first_response(response: Response) -> Times:
    """Return when each person first responded; who was never seen after baseline is not at risk."""
    status = response.status
    seen = np.asarray(~np.isnan(status).all(axis=1), dtype=bool)
    last = status.shape[1] - np.argmax(~np.isnan(status[:, ::-1]), axis=1)
    happened = (status == 1).any(axis=1)
    return _of(response, np.where(happened, np.argmax(status == 1, axis=1) + 1, last), happened, seen)


def relapse(response: Response) -> Times:
    """Return when responders were first seen without the response, in visits after it.

    Who was not seen after the response is not at risk.
    """
    first = first_response(response)
    times, happened = np.zeros(len(first.times), dtype=int), np.zeros(len(first.times), dtype=bool)
    status = response.status[~np.isnan(response.status).all(axis=1)]
    for person in np.flatnonzero(first.happened):
        after = status[person, first.times[person] :]
        known = np.flatnonzero(~np.isnan(after))
        if len(known):
            lost = np.flatnonzero(after == 0)
            happened[person] = bool(len(lost))
            times[person] = (lost[0] if len(lost) else known[-1]) + 1
    at_risk = times > 0
    strata = tuple(stratum for stratum, risk in zip(first.strata, at_risk, strict=True) if risk)
    return Times(times[at_risk], happened[at_risk], first.active[at_risk], strata)


def _of(
    response: Response, times: NDArray[np.int_], happened: NDArray[np.bool_], some: NDArray[np.bool_]
) -> Times:
    strata = tuple(stratum for stratum, seen in zip(response.strata, some, strict=True) if seen)
    return Times(times[some], happened[some], response.active[some], strata)


def curve(
    times: NDArray[np.int_], happened: NDArray[np.bool_], sessions: tuple[str, ...], level: float
) -> list[dict[str, object]]:
    """Return Kaplan and Meier's estimate at every visit, with Greenwood's error on the log-log scale."""
    rows: list[dict[str, object]] = []
    share, spread, z = 1.0, 0.0, float(ndtri((1 + level) / 2))
    for visit, session in enumerate(sessions, start=1):
        at_risk, events = int((times >= visit).sum()), int(((times == visit) & happened).sum())
        if not at_risk:
            break
        share *= 1 - events / at_risk
        spread += events / (at_risk * (at_risk - events)) if at_risk > events else math.inf
        lower, upper = share, share
        if 0 < share < 1:
            log = math.log(share)
            half = z * math.sqrt(spread) / abs(log)
            lower, upper = share ** math.exp(half), share ** math.exp(-half)
        known = 0 < share < 1
        rows.append(
            {
                "session": session,
                "share": share,
                "lower": lower if known else math.nan,
                "upper": upper if known else math.nan,
                "at_risk": at_risk,
                "events": events,
            }
        )
    return rows


def _ratios(times: Times, prior_sd: float, level: float) -> list[dict[str, object]]:
    """The log hazard ratio by both methods; without events in an arm only a prior keeps it finite."""
    events = {side: int(times.happened[mask].sum()) for side, mask in _sides(times)}
    start: dict[str, object] = {f"events_{side}": count for side, count in events.items()}
    start |= {f"n_{side}": int(mask.sum()) for side, mask in _sides(times)}
    rows = []
    for method in ("cox", "bayes"):
        row = start | {"method": method}
        try:
            if not (start["n_active"] and start["n_control"]):
                raise NotEstimableError("an arm has nobody at risk")
            if not _share_a_stratum(times):
                raise NotEstimableError("no stratum has people of both arms at risk")
            if not sum(events.values()):
                raise NotEstimableError("nobody had the event")
            if method == "cox" and min(events.values()) < FEWEST:
                raise NotEstimableError(
                    "an arm has no event, so that the hazard ratio has no estimate",
                    fix="no action is needed, the Bayesian row has one",
                )
            answer = _cox(times, level) if method == "cox" else _posterior(times, prior_sd, level)
            rows.append(row | answer | answered())
        except NotEstimableError as reason:
            rows.append(row | withheld(reason))
    return rows


def _share_a_stratum(times: Times) -> bool:
    """Whether some stratum compares the arms at all; else the posterior is the prior."""
    sides = [
        {stratum for stratum, in_arm in zip(times.strata, mask, strict=True) if in_arm}
        for _, mask in _sides(times)
    ]
    return bool(sides[0] & sides[1])


def _sides(times: Times) -> list[tuple[str, NDArray[np.bool_]]]:
    return [("active", times.active), ("control", ~times.active)]


def log_likelihood(times: Times, slopes: Array) -> Array:
    """Return the partial log-likelihood at each slope, (n,), with Efron's treatment of ties, over strata."""
    total = np.zeros(len(slopes))
    strata = np.array(times.strata)
    for stratum in set(times.strata):
        mine = strata == stratum
        when, happened, active = times.times[mine], times.happened[mine], times.active[mine]
        for visit in np.unique(when[happened]):
            dies = (when == visit) & happened
            at_risk = _weighed(active[when >= visit], slopes)
            tied = _weighed(active[dies], slopes)
            shares_of_ties = np.arange(dies.sum()) / dies.sum()
            total += active[dies].sum() * slopes
            total -= np.log(at_risk[:, None] - shares_of_ties * tied[:, None]).sum(axis=1)
    return total


def _weighed(active: NDArray[np.bool_], slopes: Array) -> Array:
    return np.asarray(active.sum() * np.exp(slopes) + (~active).sum())


def _cox(times: Times, level: float) -> dict[str, object]:
    """The maximum of the partial likelihood with its Wald interval, by statsmodels.

    Raises
    ------
    NotEstimableError
        It did not converge: the events separate the arms.
    """
    from statsmodels.duration.hazard_regression import PHReg  # half a second, for studies with such rules

    strata = None if len(set(times.strata)) < 2 else np.unique(times.strata, return_inverse=True)[1]
    exog = times.active.astype(float)[:, None]
    model = PHReg(times.times, exog, status=times.happened.astype(int), strata=strata, ties="efron")
    try:
        fit = model.fit(disp=0)
        estimate, error = float(fit.params[0]), float(fit.bse[0])
    except (np.linalg.LinAlgError, ValueError, ZeroDivisionError) as reason:
        raise NotEstimableError(f"the model was not fitted ({type(reason).__name__})") from None
    if not (abs(estimate) < 10 and 0 < error < 100):
        raise NotEstimableError("the events separate the arms, so that the hazard ratio has no estimate")
    half = float(ndtri((1 + level) / 2)) * error
    p = float(2 * norm.sf(abs(estimate) / error))
    return {"estimate": estimate, "sd": error, "lower": estimate - half, "upper": estimate + half, "p": p}


def _posterior(times: Times, prior_sd: float, level: float) -> dict[str, object]:
    """Mean, SD and equal-tailed interval of the log hazard ratio, prior Normal(0, prior_sd), on a grid."""
    slopes = np.linspace(-6 * prior_sd, 6 * prior_sd, 4001)
    weights = shares(log_likelihood(times, slopes) - 0.5 * (slopes / prior_sd) ** 2)
    mean = float(weights @ slopes)
    ends = np.interp([(1 - level) / 2, (1 + level) / 2], np.cumsum(weights), slopes)
    above = float(weights[slopes > 0].sum())
    return {
        "estimate": mean,
        "sd": float(weights @ (slopes - mean) ** 2) ** 0.5,
        "lower": float(ends[0]),
        "upper": float(ends[1]),
        "probability": max(above, 1 - above),
    }
