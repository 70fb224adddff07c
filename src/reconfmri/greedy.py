"""Registration by greedy: affine, deformable, and of the template brains with one another.

Transforms map a point of the fixed image to the moving image, RAS mm (`registration`).
greedy: Yushkevich et al., Alzheimer's & Dementia 2016;12:P126.
"""

from __future__ import annotations

import ctypes
import hashlib
import io
import json
import os
import re
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from reconfmri import registration
from reconfmri.machine import cache_folder
from reconfmri.registration import SEED, Array, Volume, dense_map, dilated, downsample, read_volume, to_itk

CODE = (__file__, registration.__file__)
# What greedy's optimiser prints when no step lowers the cost any more: at the minimum, that is. Its result is
# judged by every caller.
END_OF_SEARCH = re.compile(rb" *IFLAG= *-1 +LINE SEARCH FAILED\.[^\n]*?INFO= *\d[^\n]*?TOLERANCES ?")


def affine(
    fixed: Volume,
    moving: Volume,
    *,
    mask: Array | None = None,
    options: str = "-dof 12 -m NCC 2x2x2 -n 40x20",
    start: Array | None = None,
) -> Array:
    """Return the (4, 4) matrix, RAS mm, from `fixed` to `moving`; `mask` is on the fixed grid.

    `options` are greedy's own: degrees of freedom, metric, iterations per level. `start` is the matrix to
    begin with; without it the headers are believed. One thread does the work: with two, greedy sums in
    another order and the matrix changes in its third to sixth digit.

    Raises
    ------
    ValueError
        An image is sheared or holds values that are not finite.
    """
    images = _greedy_images(fixed, moving, mask)
    with tempfile.TemporaryDirectory() as folder:
        first = "-ia-identity"
        if start is not None:
            np.savetxt(Path(folder) / "start.mat", start)
            first = f"-ia {folder}/start.mat"
        command = f"-a {first} {options} -o matrix"
        return np.asarray(_greedy(command, images, "matrix", 1), dtype=np.float64)


def deformable(
    fixed: Volume,
    moving: Volume,
    *,
    start: Array,
    mask: Array | None = None,
    options: str = "-m NCC 2x2x2 -n 40x20",
    threads: int = 1,
) -> Array:
    """Return the displacement (x, y, z, 3), RAS mm, on the fixed grid; `start` is applied after it.

    A point p of the fixed image lies at `start @ (p + displacement(p))` in the moving image.

    Raises
    ------
    ValueError
        An image is sheared or holds values that are not finite.
    """
    import SimpleITK

    images = _greedy_images(fixed, moving, mask)
    with tempfile.TemporaryDirectory() as folder:
        np.savetxt(Path(folder) / "start.mat", start)
        # -wp 0: otherwise greedy rounds the warp to a tenth of a voxel.
        command = f"-it {folder}/start.mat {options} -wp 0 -o warp"
        warp = SimpleITK.GetArrayFromImage(_greedy(command, images, "warp", threads))
    from_lps = np.array([-1.0, -1.0, 1.0])
    return np.asarray(warp.transpose(2, 1, 0, 3) * from_lps)


def template_to_template(moving: Path, fixed: Path, *, finest_mm: float, threads: int = 1) -> Volume:
    """Return the point map from the `fixed` brain to the `moving` brain on a grid of `finest_mm`, RAS mm.

    Both are brain-only images that roughly share a space, as the versions of the MNI152 template do. What is
    found is kept in the user's cache: every study on a machine asks for the same pairs.
    """
    asked = {
        "images": [hashlib.sha256(path.read_bytes()).hexdigest() for path in (moving, fixed)],
        "finest_mm": finest_mm,
        "code": [hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in CODE],
        "libraries": [metadata.version(name) for name in ("picsl-greedy", "numpy", "scipy", "SimpleITK")],
    }
    name = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:32]
    path = cache_folder("templates") / f"{name}.npz"
    if known := _read_kept(path):
        return known
    found = _register_templates(moving, fixed, finest_mm=finest_mm, threads=threads)
    _keep(path, found)
    return found


def _read_kept(path: Path) -> Volume | None:
    """Return a map that was kept; None where there is none, or the file is damaged."""
    try:
        with np.load(path) as kept:
            found, digest = Volume(kept["data"], kept["affine"]), bytes(kept["sha256"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return found if hashlib.sha256(found.data.tobytes()).digest() == digest else None


def _keep(path: Path, found: Volume) -> None:
    """Keep a map for other processes; a full disk costs its computation again and nothing else."""
    digest = np.frombuffer(hashlib.sha256(found.data.tobytes()).digest(), np.uint8)
    with suppress(OSError), tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as beside:
        try:
            np.savez(beside, data=found.data, affine=found.affine, sha256=digest)
            beside.flush()
            Path(beside.name).replace(path)
        except OSError:
            Path(beside.name).unlink()


def _register_templates(moving: Path, fixed: Path, *, finest_mm: float, threads: int) -> Volume:
    still = downsample(_trimmed(read_volume(fixed)), finest_mm)
    mobile = downsample(_trimmed(read_volume(moving)), finest_mm)
    around = dilated(still.data > 0.1 * still.data.max(), 6.0, still.affine)
    coarse_still, coarse_mobile = downsample(still, 2 * finest_mm), downsample(mobile, 2 * finest_mm)
    matrix = affine(coarse_still, coarse_mobile, options="-dof 12 -m NCC 2x2x2 -n 50x20")
    warp = deformable(
        still,
        mobile,
        start=matrix,
        mask=around,
        options="-m NCC 2x2x2 -n 60x60x30 -s 1.732vox 0.7071vox",
        threads=threads,
    )
    return dense_map(still, matrix=matrix, displacement=warp)


def _greedy(command: str, images: dict[str, Any], result: str, threads: int) -> Any:
    from picsl_greedy import Greedy3D

    pair = "-i fixed moving" + (" -gm mask" if "mask" in images else "")
    engine = Greedy3D()
    said = io.StringIO()
    with _printed_but(END_OF_SEARCH):
        engine.execute(
            f"{pair} {command} -seed {SEED} -threads {threads} -V 0",
            out=said,
            err=said,
            **images,
            **{result: None},
        )
    return engine[result]


@contextmanager
def _printed_but(pattern: re.Pattern[bytes]) -> Iterator[None]:
    """Keep what matches out of what compiled code prints on the standard output, which Python cannot see."""
    flush = ctypes.CDLL(None).fflush
    sys.stdout.flush()
    flush(None)
    with tempfile.TemporaryFile() as printed:
        screen = os.dup(1)
        os.dup2(printed.fileno(), 1)
        try:
            yield
        finally:
            flush(None)
            os.dup2(screen, 1)
            os.close(screen)
            printed.seek(0)
            with open(1, "wb", closefd=False) as out:
                out.write(pattern.sub(b"", printed.read()))


def _greedy_images(fixed: Volume, moving: Volume, mask: Array | None) -> dict[str, Any]:
    images = {"fixed": to_itk(fixed), "moving": to_itk(moving)}
    if mask is not None:
        images["mask"] = to_itk(Volume(mask.astype(np.float32), fixed.affine))
    return images


def _trimmed(volume: Volume, *, margin: int = 12) -> Volume:
    """Cut a brain-only image to its brain and `margin` voxels around, padded where the image ends before."""
    box = [np.flatnonzero(volume.data.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    inside = volume.data[tuple(slice(found[0], found[-1] + 1) for found in box)]
    affine = volume.affine.copy()
    affine[:3, 3] += volume.affine[:3, :3] @ np.array([found[0] - margin for found in box])
    return Volume(np.pad(inside, margin), affine)
