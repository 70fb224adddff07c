"""What a perfect estimator would find: planted values, and what is left of them on the scanner's grid.

`psc_source` is what was planted; `psc_expected` is what the noise-free, motion-free images hold, taken
through the TRUE transforms onto the study's grid, into its regions and designs. All steps from a source's
signal to a region's mean are linear, so they are one matrix of gains per scan (regions x sources); and the
design's regressors are the planted time courses, so a fit of the noise-free series returns gain x planted
value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from reconfmri import registration
from reconfmri.config import Study, Task
from reconfmri.simulate import planted, scanner, signals
from reconfmri.simulate.anatomy import Anatomy, apply, grid_points, sample
from reconfmri.simulate.head import Points
from reconfmri.simulate.planted import Timing, Visit
from reconfmri.simulate.regions import SOURCES, Territory

Gains = npt.NDArray[
    np.float64
]  # (n_regions, n_sources): share of a source's percent change in a region's mean
PROBES = 64  # white-noise images that measure how a region's mean averages thermal noise


@dataclass(frozen=True)
class ScanTruth:
    """What was true of one scan: planted values and how its regions see the sources."""

    participant_id: str
    session_id: str
    task: str
    visit: Visit
    gains: Gains


def region_gains(
    body: scanner.Body, anatomy: Anatomy, pose: Points, territory: Territory, protocol: scanner.Protocol
) -> Gains:
    """Return the gains (n_regions, n_sources) of a scan, regions in the order of `territory.parts`."""
    shape, affine = protocol.epi_grid
    points = apply(np.linalg.inv(pose), grid_points(shape, affine))
    images = [sample(body.baseline, points - body.origin)]
    images += [sample(source.amplitude, points - source.origin) for source in body.sources]
    means = _region_means([image.reshape(shape) for image in images], affine, anatomy, pose, territory)
    return means[:, 1:] / means[:, :1]


def _region_means(
    images: list[npt.NDArray[np.float32]],
    affine: Points,
    anatomy: Anatomy,
    pose: Points,
    territory: Territory,
) -> Gains:
    """Return the mean of each EPI image in each region, (n_regions, n_images), by the true transforms."""
    sizes = {name: len(points) for name, points in territory.voxels.items()}
    places = np.concatenate([apply(pose, anatomy.from_model(p)) for p in territory.voxels.values()])
    values = [registration.sample(registration.Volume(image, affine), places, order=3) for image in images]
    edges = np.cumsum([0, *sizes.values()])
    single = {
        name: np.array([value[low:high].mean(dtype=np.float64) for value in values])
        for name, low, high in zip(sizes, edges[:-1], edges[1:], strict=True)
    }
    rows = [
        np.average([single[part] for part in parts], axis=0, weights=[sizes[part] for part in parts])
        for parts in territory.parts.values()
    ]
    return np.array(rows)


def thermal_covariance(anatomy: Anatomy, territory: Territory, protocol: scanner.Protocol) -> Gains:
    """Return the covariance of the regions' thermal noise, (n_regions, n_regions), percent squared."""
    shape, affine = protocol.epi_grid
    rng = np.random.default_rng(0)
    probes = [rng.standard_normal(shape, dtype=np.float32) for _ in range(PROBES)]
    means = _region_means(probes, affine, anatomy, np.eye(4), territory)
    return (100 * scanner.THERMAL) ** 2 * (means @ means.T) / PROBES


def compose(
    scans: list[ScanTruth],
    study: Study,
    territory: Territory,
    thermal: Gains,
    timing: Timing,
    seed: int,
    *,
    arms: int = 2,
) -> dict[str, Any]:
    """Return the content of truth.json."""
    asker = _Asker(study, territory, thermal, timing)
    units = study.outcome_units()
    names = [name for name in asker.outcomes() if name in units]
    mean_gains = np.mean([scan.gains for scan in scans], axis=0)
    outcomes = {}
    for name in names:
        *active, control = planted.DESIGNS[arms]
        found = {arm: asker.differences(name, mean_gains, (arm, control)) for arm in active}
        outcomes[name] = {"unit": units[name]} | _of_arms(found)
    regions = list(territory.parts)
    recovery = {
        region: round(float(mean_gains[regions.index(region), list(SOURCES).index(source)]), 4)
        for region, source in territory.source_of.items()
    }
    rows = [asker.scan_row(scan, names) for scan in scans]
    return {"seed": seed, "definition": DEFINITION, "outcomes": outcomes, "recovery": recovery, "scans": rows}


def _of_arms(found: Mapping[str, tuple[dict[str, float], dict[str, float]]]) -> dict[str, Any]:
    """The differences of the active arm of two, or of each active arm, from the control."""
    if len(found) == 1:
        ((expected, source),) = found.values()
        return {"difference": expected, "difference_source": source}
    return {
        "difference_by_arm": {arm: expected for arm, (expected, _) in found.items()},
        "difference_source_by_arm": {arm: source for arm, (_, source) in found.items()},
    }


DEFINITION = (
    "difference: planted population difference, active minus control, as a perfect estimator finds it on the "
    "study's grid (for coupling: Fisher z in the study's band with the scanner's thermal noise). "
    "difference_source: as planted. "
    "psc_source, psc_expected: the same per scan, for the values themselves."
)


@dataclass(frozen=True)
class _Asker:
    """Values of outcomes for a visit, at the source and as expected."""

    study: Study
    territory: Territory
    thermal: Gains
    timing: Timing

    def outcomes(self) -> list[str]:
        """Names of the outcomes that the simulator knows the truth of."""
        regions = [r for r in self.territory.parts if self.study.first_level]
        names = [f"{r}.{c}" for r in regions for c in self._planted_contrasts()]
        if self.study.connectivity:
            pairs = [p for p in self.study.connectivity.pairs if self._pair(p)]
            names += [f"{a}-{b}.{c}" for a, b in pairs for c in self.study.connectivity.conditions]
        if self.study.skin_conductance:
            names += [name for name, outcome in self.study.outcomes.items() if outcome.what == "scr"]
        return names + [f"{name}.total" for name in planted.SCALES if name in self.study.scales]

    def _planted_contrasts(self) -> list[str]:
        """Contrasts of whole scripts; what a window of a script holds is not planted."""
        settings = self.study.first_level
        if settings is None:
            return []
        windows = set(self.study.tasks[settings.task].windows)
        return [
            name
            for name, weights in settings.contrasts.items()
            if not any(item.startswith(window) for item in weights for window in windows)
        ]

    def scan_row(self, scan: ScanTruth, names: list[str]) -> dict[str, Any]:
        """One entry of `scans` in truth.json."""
        values = {name: self.value(name, scan.visit, scan.gains) for name in names}
        return {
            "participant_id": scan.participant_id,
            "session_id": scan.session_id,
            "task": scan.task,
            "run": "n/a",
            "psc_source": {name: _rounded(source) for name, (_, source) in values.items()},
            "psc_expected": {name: _rounded(expected) for name, (expected, _) in values.items()},
        }

    def differences(
        self, name: str, gains: Gains, arms: tuple[str, str]
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Difference of two arms' means per later session: expected, and at the source."""
        expected, source = {}, {}
        for session in planted.SESSIONS[1:]:
            active, control = (planted.mean_visit(arm, session, self.timing) for arm in arms)
            one, other = self.value(name, active, gains), self.value(name, control, gains)
            expected[session] = _rounded(one[0] - other[0])
            source[session] = _rounded(one[1] - other[1])
        return expected, source

    def value(self, name: str, visit: Visit, gains: Gains) -> tuple[float, float]:
        """An outcome of a visit: expected, and at the source."""
        outcome = self.study.outcomes[name]
        if outcome.producer == "scr":
            value = float(np.dot(visit.skin, self._weights({outcome.condition: 1.0}, self._skin_task())))
            return value, value
        if outcome.producer == "scale":
            return visit.scales[outcome.what], visit.scales[outcome.what]
        if outcome.producer == "connectivity":
            return self._coupling(tuple(outcome.what.split("-")), visit, gains)
        return self._activation(outcome.what, outcome.condition, visit, gains)

    def _activation(self, region: str, contrast: str, visit: Visit, gains: Gains) -> tuple[float, float]:
        settings = self.study.first_level
        if settings is None:
            raise ValueError("the study has no first level")
        weights = self._weights(settings.contrasts[contrast], settings.task)
        planted_values = np.array([visit.answers[source] @ weights for source in SOURCES])
        row = list(self.territory.parts).index(region)
        own = self.territory.source_of.get(region)
        source = float(planted_values[list(SOURCES).index(own)]) if own else 0.0
        return float(gains[row] @ planted_values), source

    def _coupling(self, pair: tuple[str, ...], visit: Visit, gains: Gains) -> tuple[float, float]:
        rows = [list(self.territory.parts).index(region) for region in pair]
        mixing = gains[rows]
        fluctuation = np.eye(len(SOURCES))
        where = [list(SOURCES).index(region) for region in signals.COUPLED]
        fluctuation[np.ix_(where, where)] = signals.correlation_of(visit)
        covariance = self._shared(mixing @ fluctuation @ mixing.T, self.thermal[np.ix_(rows, rows)])
        r = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
        one, other = (list(SOURCES).index(source) for source in self._pair(pair))
        return float(np.arctanh(r)), float(np.arctanh(fluctuation[one, other]))

    def _shared(self, fluctuation: Gains, thermal: Gains) -> Gains:
        """Covariance of region means within the study's band, percent squared."""
        settings, tr = self.study.connectivity, self.timing.tr
        if settings is None:
            raise ValueError("the study has no connectivity")
        white = 2 * tr * (min(settings.band[1], 0.5 / tr) - settings.band[0])
        slow = signals.in_band_share(tr, settings.band)
        return np.asarray(slow * signals.FLUCTUATION**2 * fluctuation + white * thermal)

    def _pair(self, pair: tuple[str, ...]) -> tuple[str, ...]:
        """The coupled sources of a pair of regions, or nothing."""
        found = [self.territory.source_of.get(region, "") for region in pair]
        known = [{*p} for p in planted.COUPLINGS]
        return tuple(found) if {*found} in known else ()

    def _skin_task(self) -> str:
        if self.study.skin_conductance is None:
            raise ValueError("the study has no skin conductance")
        return self.study.skin_conductance.task

    def _weights(self, weights: Mapping[str, float], task: str) -> npt.NDArray[np.float64]:
        """A contrast of conditions as weights of the scripts, in their order."""
        return script_weights(weights, self.study.tasks[task], self.timing)


def script_weights(weights: Mapping[str, float], task: Task, timing: Timing) -> npt.NDArray[np.float64]:
    """Return the weight of each script in a contrast: a condition is the mean of its scripts.

    Raises
    ------
    ValueError
        The contrast names what no script of the trial is.
    """
    total = np.zeros(len(timing.scripts))
    conditions = [task.conditions.get(kind, "") for kind, _, _ in timing.scripts]
    for name, weight in weights.items():
        stem, _, number = name.rpartition("_")
        places = np.flatnonzero(np.array(conditions) == name)
        if not len(places):
            places = np.flatnonzero(np.array(conditions) == stem)
            which = 0 if number == "first" else int(number) - 1 if number.isdigit() else len(places)
            places = places[which : which + 1]
        if not len(places):
            raise ValueError(
                f"no script of the simulated trial is {name!r}; it has {sorted(set(conditions))}"
            )
        total[places] += weight / len(places)
    return total


def _rounded(value: float) -> float:
    return round(float(value), 6)
