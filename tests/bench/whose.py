"""Is every run known for whose it is? Own runs, runs with left and right swapped, other people's runs.

`python -m tests.bench.whose [N]` places one EPI of each of N simulated people in everybody's T1w, and the own
ones with noise, in a slab and swapped; with RECONFMRI_DATA the real scan as well, in large voxels, too. One
line each: what the engine says (or nothing), the boundary cost, that of the mirror image of the head.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from reconfmri import registration
from reconfmri.exclusions import DataFault
from reconfmri.preprocess import anatomy, coregistration, embedded, intake
from reconfmri.registration import Volume
from reconfmri.simulate import scanner
from reconfmri.simulate.anatomy import draw_anatomy, draw_pose, sample
from reconfmri.simulate.head import build_head

PROTOCOL = scanner.Protocol(2.0, 10, 4.0, 2.0)
REAL = "studyforrest_sub02/sub-02/{}"


def swapped(image: Volume) -> Volume:
    """The image whose left and right were swapped under its header."""
    across = int(np.abs(image.affine[0, :3]).argmax())
    return Volume(np.ascontiguousarray(np.flip(image.data, across)), image.affine)


def noisy(image: Volume, snr: float) -> Volume:
    """The image with Rician noise of the brain's signal over `snr`."""
    rng = np.random.default_rng(5)
    level = np.median(image.data[coregistration.signal_mask(image)]) / snr
    parts = level * rng.normal(size=(2, *image.data.shape))
    return Volume(np.hypot(image.data + parts[0], parts[1]).astype(np.float32), image.affine)


def slab(image: Volume) -> Volume:
    """The lower 60 % of the slices."""
    return Volume(image.data[:, :, : int(0.6 * image.data.shape[2])].copy(), image.affine)


def simulated(seed: int) -> tuple[Volume, Volume]:
    """T1w and EPI of a person."""
    rng = np.random.default_rng(seed)
    person, head = draw_anatomy(rng), build_head()
    t1w = scanner.acquire_t1w(head, person, draw_pose(rng), PROTOCOL, rng)
    nothing = np.zeros(head.epi.shape, np.uint8)
    body = scanner.embody(head, person, nothing, [], point_spread=0.9 * PROTOCOL.epi_voxel)
    shape, affine = PROTOCOL.epi_grid
    voxels = np.indices(shape, dtype=float).reshape(3, -1)
    index = scanner._index_in(body, draw_pose(rng), affine, voxels)
    epi = Volume(sample(body.baseline, index.T).reshape(shape), affine)
    return Volume(t1w.astype(np.float32), PROTOCOL.t1w_grid[1]), noisy(epi, 200)


def say(kind: str, epi: Volume, person: anatomy.Anatomy) -> None:
    """Print what becomes of an EPI in a person's T1w."""
    found: dict[str, float] = {}
    check = coregistration._check
    coregistration._check = lambda facts: (found.update(facts), check(facts))[1]  # type: ignore[func-returns-value]
    try:
        reflection = embedded._reflection(person.to_t1w)
        coregistration.align_to_t1w(epi, person.t1w, person.dseg, reflection=reflection)
        code = "-"
    except DataFault as fault:
        code = fault.code
    finally:
        coregistration._check = check
    print(
        f"{kind:28s} {code:12s} {found['coregistration_cost']:.2f} {found['mirrored_cost']:.2f}", flush=True
    )


def own(name: str, epi: Volume) -> Iterator[tuple[str, Volume]]:
    """An own run in conditions."""
    yield f"{name}, own", epi
    yield f"{name}, own, SNR 10", noisy(epi, 10)
    yield f"{name}, own, 5 mm", registration.downsample(epi, 5.0)
    yield f"{name}, own, slab", slab(epi)
    yield f"{name}, swapped", swapped(epi)


def main(count: int) -> None:
    """Print a line for every EPI in every T1w."""
    people = [simulated(40 + number) for number in range(count)]
    for number, (t1w, epi) in enumerate(people):
        person = anatomy.prepare(anatomy.conform(t1w), finest_mm=3.0)
        for kind, image in own(f"simulated {number + 1}", epi):
            say(kind, image, person)
        for other, (_, image) in enumerate(people):
            if other != number:
                say(f"simulated {number + 1}, run of {other + 1}", image, person)
    if folder := os.environ.get("RECONFMRI_DATA"):
        places = (REAL.format("anat/sub-02_T1w"), REAL.format("func/sub-02_task-objectcategories_run-1_bold"))
        head, run = (Path(folder) / f"{place}.nii.gz" for place in places)
        person = anatomy.prepare(anatomy.conform(intake.read_anatomy(head)), finest_mm=3.0)
        for kind, image in own("real", intake.read_mean(run)):
            say(kind, image, person)
        for number, (_, image) in enumerate(people):
            say(f"real, run of simulated {number + 1}", image, person)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 4)
