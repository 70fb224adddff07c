"""The arms compared in every voxel of the declared contrasts: tables and images of the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from reconfmri.contracts.questions.arms import EXCLUSIONS
from reconfmri.contracts.questions.voxels import CLUSTERS, SMALL_VOLUMES, VOXELS
from reconfmri.contracts.voxels import MARGINAL, VoxelImage
from reconfmri.group.asked import Asked
from reconfmri.group.estimands import Array, answered, withheld
from reconfmri.group.grid import Outcome, lay_out
from reconfmri.voxels.clusters import Atlas, Found
from reconfmri.voxels.contrast import Asking, Contrast, Result, answer_contrast
from reconfmri.voxels.draws import Draws, allocations, corrected
from reconfmri.voxels.enhancement import tfce
from reconfmri.voxels.scans import Images

UNIT, DOMAIN = "percent signal change", "activation"
COLUMNS = ["participant_id", "session_id", "domain", "outcome", "value", "unit"]
Row = dict[str, Any]
Volume = npt.NDArray[Any]


class Answer(NamedTuple):
    """The tables of a comparison in the order of their registration, and its images with what each holds."""

    voxels: pd.DataFrame
    clusters: pd.DataFrame
    regions: pd.DataFrame
    exclusions: pd.DataFrame
    images: dict[VoxelImage, tuple[Volume, Array, Row]]

    @property
    def tables(self) -> tuple[pd.DataFrame, ...]:
        """The tables alone."""
        return self[:4]


def compare(asking: Asking, images: Mapping[str, Images]) -> Answer:
    """Return the model's answers in every voxel, and where they rise higher than under other allocations.

    Raises
    ------
    ValueError
        The maps and the allocation do not fit one another.
    """
    outcomes = _outcomes(asking.asked, images)
    people = sorted({person for outcome in outcomes.values() for person in outcome.people})
    draws = _draws(asking, outcomes, people)
    contrasts = []
    for name, outcome in outcomes.items():
        own = replace(draws, sides=draws.sides[:, [people.index(person) for person in outcome.people]])
        contrasts.append(answer_contrast(asking, name, images[name], outcome, own))
    grounds = {contrast.name: _Ground(asking, contrast) for contrast in contrasts}
    parts = [
        _Part(asking, contrasts, draws, grounds[contrast.name], item)
        for contrast in contrasts
        for item in contrast.results
    ]
    left_out = list(dict.fromkeys(row for of in images.values() for row in of.left_out))
    found: dict[VoxelImage, tuple[Volume, Array, Row]] = {}
    for contrast in contrasts:
        found |= _of_contrast(asking, contrast)
    for part in parts:
        found |= part.images()
    return Answer(
        VOXELS.frame([part.row() for part in parts]),
        CLUSTERS.frame([row for part in parts for row in part.clusters()]),
        SMALL_VOLUMES.frame([row for part in parts for row in part.small_volumes()]),
        EXCLUSIONS.frame([asdict(row) for row in left_out]),
        found,
    )


def _outcomes(asked: Asked, images: Mapping[str, Images]) -> dict[str, Outcome]:
    """Return who has maps when, by contrast; a value is the mean of a map, and missing where the map is."""
    rows = [
        (person, session, DOMAIN, name, mean, UNIT)
        for name, of in images.items()
        for (person, session), mean in of.means().items()
    ]
    # covariates that are measures come from the others
    sources = [item.measure for item in asked.group.covariates.values() if item.measure]
    known = asked.measures.loc[asked.measures["outcome"].isin(sources), COLUMNS]
    own = pd.DataFrame(rows, columns=COLUMNS)
    changed = {"outcomes": list(images), "exploratory": [], "scales": asked.group.scales | {UNIT: 1.0}}
    group = asked.group.model_copy(update=changed)
    measures = pd.concat([known, own], ignore_index=True) if len(known) else own
    laid_out = lay_out(measures, asked.allocation, group, asked.sessions)
    return {outcome.name: outcome.of(np.asarray(outcome.seen.any(axis=1))) for outcome in laid_out}


def _draws(asking: Asking, outcomes: Mapping[str, Outcome], people: Sequence[str]) -> Draws:
    """Return draws of the allocation of everybody with a map of any contrast; without a test none but it."""
    arm: dict[str, bool] = {}
    stratum: dict[str, str] = {}
    for outcome in outcomes.values():
        arm |= dict(zip(outcome.people, outcome.active.tolist(), strict=True))
        stratum |= dict(zip(outcome.people, outcome.strata, strict=True))
    active = np.array([arm[person] for person in people], dtype=bool)
    strata = [stratum[person] for person in people]
    return allocations(active, strata, n_draws=asking.settings.permutations, seed=asking.asked.seed)


def _of_contrast(asking: Asking, contrast: Contrast) -> dict[VoxelImage, tuple[Volume, Array, Row]]:
    affine = contrast.images.affine
    about: Row = {"Contrast": contrast.name, "Maps": len(contrast.images.of)}
    rule = f"at least {asking.settings.min_coverage:g} of the maps of every arm and visit"
    shares = about | {"Description": "Lowest share of the maps of an arm and visit that cover a voxel"}
    mask = about | {"Description": f"Voxels compared: covered by {rule}"}
    return {
        VoxelImage(contrast.name, "coverage"): (contrast.coverage.astype(np.float32), affine, shares),
        VoxelImage(contrast.name, "mask"): (contrast.mask.astype(np.uint8), affine, mask),
    }


WHAT = {
    "effect": ("Difference, active minus control", UNIT),
    "variance": ("Squared standard error of the difference (CR2)", f"({UNIT})^2"),
    "z": ("Difference over its standard error, as a normal deviate of the same p; not thresholded", ""),
    "p": ("p by threshold-free cluster enhancement, corrected over voxels, sessions and contrasts", ""),
    "thresholded": ("z where the corrected p is up to 1 - level, else 0", ""),
}


class _Ground:
    """The voxels of a contrast: where they lie, and the atlas there, looked up when it is needed."""

    def __init__(self, asking: Asking, contrast: Contrast):
        self.asking, self.contrast = asking, contrast

    @cached_property
    def points(self) -> Array:
        """(m, 3), mm."""
        affine = self.contrast.images.affine
        return np.asarray(np.argwhere(self.contrast.mask) @ affine[:3, :3].T + affine[:3, 3])

    @cached_property
    def atlas(self) -> Atlas:
        """The atlas at every voxel."""
        return self.asking.atlas_of(self.points)


class _Part:
    """One result among all: its corrected p values, rows and images."""

    def __init__(
        self, asking: Asking, contrasts: Sequence[Contrast], draws: Draws, ground: _Ground, result: Result
    ):
        self.asking, self.draws, self.ground, self.result = asking, draws, ground, result
        self.contrast = ground.contrast
        self.family = [
            (other, item)
            for other in contrasts
            for item in other.results
            if item.heights is not None and item.question.estimand == result.question.estimand
        ]

    @property
    def key(self) -> Row:
        """The cells that say what was asked."""
        question = self.result.question
        return {
            "contrast": self.contrast.name, "estimand": question.estimand, "session": question.session,
        }  # fmt: skip

    def highest(self, name: str) -> Array:
        """Return how high any map of the family rises under each draw, (draws,)."""
        columns = [
            item.heights[:, other.search.names.index(name)]
            for other, item in self.family
            if item.heights is not None and other.search is not None and name in other.search.names
        ]
        return np.asarray(np.max(columns, axis=0))

    def lowest_p(self, name: str) -> float | None:
        """Return the lowest corrected p of the map by one way of looking."""
        if self.result.heights is None or self.contrast.search is None:
            return None
        own = self.result.heights[:1, self.contrast.search.names.index(name)]
        return float(corrected(own, self.highest(name))[0])

    @property
    def tested(self) -> bool:
        """Whether there are draws to compare with."""
        return self.result.heights is not None

    @cached_property
    def p(self) -> Array:
        """(m,): the corrected p of each voxel."""
        if self.result.scores is None or self.contrast.search is None:
            return np.empty(0)
        return corrected(tfce(self.result.scores, self.contrast.search.neighbours), self.highest("tfce"))

    @cached_property
    def found(self) -> Found | None:
        """The map as clusters are looked for in it."""
        effects, search, affine = self.result.effects, self.contrast.search, self.contrast.images.affine
        if effects is None or search is None:
            return None
        maps = (effects.estimate, np.sqrt(effects.variance), effects.z)
        mm3 = float(abs(np.linalg.det(affine[:3, :3])))
        return Found(*maps, self.ground.points, mm3, search.neighbours, self.ground.atlas)

    def row(self) -> Row:
        """Return the row of the map in the table of maps."""
        contrast, effects = self.contrast, self.result.effects
        n_active, n_control = contrast.outcome.counts(self.result.question.visit)
        row = self.key | {
            "method": self.result.method,
            "n_active": n_active,
            "n_control": n_control,
            "n_voxels": int(contrast.mask.sum()),
            "n_patterns": contrast.n_patterns,
        }
        if effects is None:
            return row | withheld(self.result.fault)
        structure, z = self.result.structure, effects.z
        usual = structure in ("", "unstructured")
        row |= answered("ok" if usual else f"ok, {structure.replace('_', ' ')}")
        row |= {"df": float(np.median(effects.df)), "highest_z": float(z.max()), "lowest_z": float(z.min())}
        if self.result.method != MARGINAL:
            beside = contrast.marginal(self.result.question.session)
            row["alike"] = float(np.corrcoef(z, beside.z)[0, 1]) if beside is not None else None
        return row | (self._of_draws() if self.tested else {})

    def _of_draws(self) -> Row:
        return {
            "p_tfce": self.lowest_p("tfce"),
            "n_significant": int((self.p <= self.asking.alpha).sum()),
            "p_cluster_mass": self.lowest_p("cluster_mass"),
            "n_draws": len(self.draws.sides),
            "exact": self.draws.exact,
        }

    def clusters(self) -> list[Row]:
        """Return the rows of the clusters by both kinds of inference."""
        if not self.tested or self.found is None or self.result.scores is None:
            return []
        rows = self.found.of_tfce(self.p, self.asking.alpha)
        rows += self.found.of_mass(
            self.result.scores,
            self.asking.threshold,
            lambda mass: corrected(mass, self.highest("cluster_mass")),
        )
        return [self.key | row for row in rows]

    def small_volumes(self) -> list[Row]:
        """Return a row per declared region."""
        if self.result.method == MARGINAL:
            return []
        rows = []
        for name in self.asking.settings.regions:
            row = self.key | {"region": name}
            search, fault = self.contrast.search, self.result.fault
            if not fault and (search is None or name not in search.regions):
                fault = "no voxel of the region is compared. Fix: look at the coverage map"
            if fault or search is None or self.found is None:
                rows.append(row | withheld(fault))
                continue
            places = search.regions[name][0]
            row |= {"n_voxels": len(places)} | self.found.peak(places) | answered()
            if self.tested:
                row["p"] = self.lowest_p(name)
            rows.append(row)
        return rows

    def images(self) -> dict[VoxelImage, tuple[Volume, Array, Row]]:
        """Return the images of the map; none without an answer."""
        effects, method = self.result.effects, self.result.method
        if effects is None:
            return {}
        volumes = {"effect": effects.estimate, "variance": effects.variance, "z": effects.z}
        if self.tested:
            volumes |= {"p": self.p, "thresholded": np.where(self.p <= self.asking.alpha, effects.z, 0.0)}
        question = self.result.question
        estimand = MARGINAL if method == MARGINAL else question.estimand
        found = {}
        for kind, values in volumes.items():
            whole = np.full(self.contrast.mask.shape, np.nan, dtype=np.float32)
            if kind == "thresholded":
                whole[:] = 0.0
            whole[self.contrast.mask] = values
            image = VoxelImage(self.contrast.name, kind, estimand, question.session)
            found[image] = (whole, self.contrast.images.affine, self._about(kind))
        return found

    def _about(self, kind: str) -> Row:
        row, group = self.row(), self.asking.asked.group
        description, unit = WHAT[kind]
        about = {
            "Description": description,
            "Units": unit,
            "Contrast": self.contrast.name,
            "Active": group.arms.pair[0],
            "Control": group.arms.control,
            "Session": self.result.question.session,
            "Estimand": self.result.question.estimand,
            "Model": self.result.method,
            "MapsActive": row["n_active"],
            "MapsControl": row["n_control"],
            "DegreesOfFreedom": row["df"],
        }
        if kind in ("p", "thresholded"):
            about |= {"Draws": row["n_draws"], "Exact": row["exact"], "Seed": self.asking.asked.seed}
            about |= {"Level": group.level} if kind == "thresholded" else {}
        return about
