"""Other draws of an allocation to several arms, and which arms a null hypothesis takes to be alike.

That two arms are alike says nothing of a third: the labels of the two are drawn anew among their people and
everybody else keeps the arm that was drawn. That all are alike lets all labels be drawn. A null hypothesis is
so a set of blocks of arms, and the arms within a block are exchangeable.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray

from reconfmri.config import Comparison
from reconfmri.group.estimands import Array

Places = NDArray[np.intp]
Labels = NDArray[np.intp] | NDArray[np.bool_]  # of two arms True is the active one
Blocks = tuple[tuple[int, ...], ...]  # of arms, by place, two or more in each
BOTH: Blocks = ((0, 1),)  # of a trial of two


def joined(comparisons: Sequence[Comparison]) -> Blocks:
    """Return the blocks of arms that are alike if none of the comparisons has a difference."""
    blocks: list[set[int]] = []
    for comparison in comparisons:
        mine = set(comparison.arms)
        touching = [block for block in blocks if block & mine]
        blocks = [block for block in blocks if not block & mine] + [mine.union(*touching)]
    return tuple(sorted(tuple(sorted(block)) for block in blocks))


def every_null(comparisons: Sequence[Comparison]) -> dict[Blocks, list[Comparison]]:
    """Return the null hypothesis of every set of comparisons, with all comparisons that it is about.

    The coarsest one comes first.
    """
    found: dict[Blocks, list[Comparison]] = {}
    for size in range(len(comparisons), 0, -1):
        for some in combinations(comparisons, size):
            blocks = joined(some)
            found[blocks] = [one for one in comparisons if is_about(blocks, one)]
    return found


def is_about(blocks: Blocks, comparison: Comparison) -> bool:
    """Whether a null hypothesis says that a comparison has no difference."""
    return any(set(comparison.arms) <= set(block) for block in blocks)


def n_possible(arm: Labels, strata: Sequence[str], blocks: Blocks = BOTH) -> int:
    """Return how many allocations there are within the blocks with arms of every stratum as large as now."""
    count = 1
    for members, _ in _cells(arm, strata, blocks):
        sizes = np.unique(arm[members], return_counts=True)[1]
        count *= math.factorial(len(members)) // math.prod(math.factorial(size) for size in sizes.tolist())
    return count


def lowest_p_of(arm: Labels, strata: Sequence[str], blocks: Blocks = BOTH) -> float:
    """Return the smallest two-sided p value that these allocations allow.

    With two arms of one size in every stratum each has a mirror image, whose statistic is as high.
    """
    sizes = [
        [int((arm[members] == one).sum()) for one in block] for members, block in _cells(arm, strata, blocks)
    ]
    mirrored = blocks and all(len(cell) == 2 and cell[0] == cell[1] for cell in sizes)
    return min(1.0, (2 if mirrored else 1) / n_possible(arm, strata, blocks))


def draw_arms(arm: Places, strata: Sequence[str], blocks: Blocks, *, n_draws: int, seed: int) -> Places:
    """Return (1 + n_draws, n_people) of arms: the allocation as it is, then drawn anew within the blocks.

    Where no more allocations are possible than draws are asked for, each of them is there once instead.
    """
    if n_possible(arm, strata, blocks) <= n_draws:
        return _every(arm, strata, blocks)
    random = np.random.default_rng(seed)
    drawn = np.tile(arm, (1 + n_draws, 1))
    for members, _ in _cells(arm, strata, blocks):
        drawn[1:, members] = random.permuted(drawn[1:, members], axis=1)
    return drawn


def sides_of(drawn: Places, blocks: Blocks = BOTH) -> Array:
    """Return (q, draws, n_people): who is in each arm after the first of a block, around the block's mean.

    Zero for people of other blocks. Two arms: +1/2 (active) and -1/2.
    """
    columns = []
    for block in blocks:
        inside = np.isin(drawn[0], block)
        columns += [np.where(inside, (drawn == one) - 1.0 / len(block), 0.0) for one in block[1:]]
    return np.stack(columns)


def _cells(arm: Labels, strata: Sequence[str], blocks: Blocks) -> Iterator[tuple[Places, tuple[int, ...]]]:
    """The people of every block in every stratum, among whom its labels are drawn."""
    labels = np.asarray(strata or [""] * len(arm))
    for stratum in dict.fromkeys(labels.tolist()):
        for block in blocks:
            yield np.flatnonzero((labels == stratum) & np.isin(arm, block)), block


def _every(arm: Places, strata: Sequence[str], blocks: Blocks) -> Places:
    """Every allocation within the blocks, the one as it is first."""
    cells = [members for members, _ in _cells(arm, strata, blocks)]
    rows = []
    for choice in product(*(_orders(arm[members].tolist()) for members in cells)):
        row = arm.copy()
        for members, order in zip(cells, choice, strict=True):
            row[members] = order
        rows.append(row)
    table = np.stack(rows)
    place = int(np.flatnonzero((table == arm).all(axis=1))[0])
    return np.vstack([table[place], np.delete(table, place, axis=0)])


def _orders(labels: Sequence[int]) -> list[list[int]]:
    """Every different order of some labels."""
    found: list[list[int]] = [[-1] * len(labels)]
    for label in sorted(set(labels))[:-1]:
        longer = []
        for order in found:
            free = [place for place, taken in enumerate(order) if taken < 0]
            longer += [
                [label if place in chosen else taken for place, taken in enumerate(order)]
                for chosen in combinations(free, list(labels).count(label))
            ]
        found = longer
    last = max(labels, default=0)
    return [[last if taken < 0 else taken for taken in order] for order in found]
