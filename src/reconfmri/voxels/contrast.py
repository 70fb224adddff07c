"""The maps of one contrast: who is compared where, what the model finds, and how high draws rise."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from reconfmri.config import Voxels
from reconfmri.contracts.voxels import MARGINAL
from reconfmri.group.asked import Asked
from reconfmri.group.estimands import Array, NotEstimableError, Question, refuse_without_baseline
from reconfmri.group.grid import Outcome
from reconfmri.voxels.clusters import Atlas
from reconfmri.voxels.draws import Draws, Search, heights, search_in
from reconfmri.voxels.enhancement import Statistics
from reconfmri.voxels.model import Effects, Maps, fit, refuse_few
from reconfmri.voxels.scans import Images

MMRM = "mmrm"
Mask = npt.NDArray[np.bool_]
log = logging.getLogger("reconfmri")


@dataclass(frozen=True)
class Asking:
    """What is asked of every contrast alike.

    `regions` are masks on the grid of the maps; `atlas_of` gives the atlas at points (m, 3), mm.
    """

    asked: Asked
    settings: Voxels
    regions: Mapping[str, Mask]
    atlas_of: Callable[[Array], Atlas]
    threads: int = 1

    @property
    def threshold(self) -> float:
        """The z from which voxels make clusters."""
        return float(-ndtri(self.settings.cluster_p / 2))

    @property
    def alpha(self) -> float:
        """What the level of intervals leaves."""
        return 1 - self.asked.group.level


@dataclass(frozen=True)
class Result:
    """The answer to one question by one method, or why there is none.

    `scores` are z as draws are compared by; `heights` (draws, names of the search) are without draws None.
    """

    question: Question
    method: str
    effects: Effects | None = None
    fault: str = ""
    structure: str = ""
    scores: Statistics | None = None
    heights: Array | None = None


@dataclass(frozen=True)
class Contrast:
    """A contrast with its people, the voxels compared (x, y, z), and the answers."""

    name: str
    images: Images
    outcome: Outcome
    coverage: Array
    mask: Mask
    search: Search | None
    n_patterns: int
    results: tuple[Result, ...]

    def marginal(self, session: str) -> Effects | None:
        """Return the marginal answer at a session."""
        found = [
            item for item in self.results if item.method == MARGINAL and item.question.session == session
        ]
        return found[0].effects if found else None


def answer_contrast(asking: Asking, name: str, images: Images, outcome: Outcome, draws: Draws) -> Contrast:
    """Return the answers to every question about a contrast; `draws` are of the outcome's people."""
    sessions = asking.asked.labels
    coverage = lowest_coverage(images, outcome, sessions)
    mask = np.asarray(coverage >= asking.settings.min_coverage - 1e-9)
    questions = asking.asked.about(asking.settings.estimands)
    beside = asking.asked.about(["difference_unadjusted"])
    if not mask.any():
        fault = (
            "no voxel is covered by enough maps of every arm and visit. Fix: see exclusions.tsv for scans "
            "that can be saved, or lower group.voxels.min_coverage"
        )
        none = [Result(question, MMRM, fault=fault) for question in questions]
        none += [Result(question, MARGINAL, fault=fault) for question in beside]
        return Contrast(name, images, outcome, coverage, mask, None, 0, tuple(none))
    maps = Maps.of(mask, images.affine, images.values(mask, outcome.people, sessions))
    search = search_in(mask, asking.threshold, asking.regions)
    found: dict[tuple[str, Question], Result] = {}
    for shared in (True, False):
        some = [question for question in questions if question.common_baseline == shared]
        found |= _of_model(asking, name, maps, outcome, some, (search, draws))
    found |= _of_model(asking, name, maps, outcome, beside, None)
    wanted = [(MMRM, question) for question in questions] + [(MARGINAL, question) for question in beside]
    results = tuple(found[key] for key in wanted)
    return Contrast(name, images, outcome, coverage, mask, search, len(maps.patterns), results)


def _of_model(
    asking: Asking,
    name: str,
    maps: Maps,
    outcome: Outcome,
    questions: Sequence[Question],
    tested: tuple[Search, Draws] | None,
) -> dict[tuple[str, Question], Result]:
    """Return the answers to questions of one model; without `tested` those of the marginal model."""
    method = MMRM if tested else MARGINAL
    found, usable = {}, []
    for question in questions:
        try:
            refuse_without_baseline(question)
            refuse_few(outcome, question)
            usable.append(question)
        except NotEstimableError as reason:
            found[method, question] = Result(question, method, fault=str(reason))
    if not usable:
        return found
    try:
        model = fit(maps, outcome, usable, marginal=tested is None)
        effects = model.effects()
    except NotEstimableError as reason:
        return found | {(method, item): Result(item, method, fault=str(reason)) for item in usable}
    if tested is None:
        return found | {(method, item.question): Result(item.question, method, item) for item in effects}
    search, draws = tested
    log.info("%s: covariance over visits, %s: %s", name, model.structure, model.covariance.round(3).tolist())
    scores = model.scores(model.rows(draws.sides[:1]), 0)
    high = heights(model, search, draws, threads=asking.threads) if len(draws.sides) > 1 else None
    for place, item in enumerate(effects):
        found[method, item.question] = Result(
            item.question,
            method,
            item,
            structure=str(model.structure),
            scores=scores[place],
            heights=None if high is None else high[:, place],
        )
    return found


def lowest_coverage(images: Images, outcome: Outcome, sessions: Sequence[str]) -> Array:
    """Return the lowest share of maps that cover each voxel, (x, y, z), over arms and visits with any map."""
    lowest = np.ones(images.shape) if outcome.seen.any() else np.zeros(images.shape)
    for arm in (outcome.active, ~outcome.active):
        for visit, session in enumerate(sessions):
            keys = [
                (outcome.people[place], session) for place in np.flatnonzero(arm & outcome.seen[:, visit])
            ]
            if keys:
                lowest = np.minimum(lowest, images.coverage(keys))
    return np.asarray(lowest)
