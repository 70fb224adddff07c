"""How long each step of preprocessing takes, what memory it needs, and how far it is from the truth.

A generated head with a known warp, pose and motion; every step runs in a process of its own, on one thread,
so that processor time and peak memory are its own. Steps of SimpleITK (the engine of ANTs) and of nilearn for
the same work are measured beside ours. `--small` runs the same steps on a coarse head, for tests.
"""

from __future__ import annotations

import argparse
import json
import pickle
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
from nibabel.openers import Opener
from scipy import ndimage
from tests import heads
from tests.bench import looks, moving

from reconfmri import itk, registration, rois, templates
from reconfmri.config import Preprocessing, Rois, load_study
from reconfmri.preprocess import coregistration, embedded, head_motion
from reconfmri.provenance import workflow_folder
from reconfmri.registration import Volume
from reconfmri.tables import write_table

TR = 2.0
N_PLACED = 6
SESSION_CPU_S, PEAK_MB = 60, 2500
COARSE_WARP_MM = embedded.FINEST_MM["fast"]
REGIONS = ("amygdala_left", "amygdala_right", "hippocampus_left", "hippocampus_right", "vmpfc")


@dataclass(frozen=True)
class Size:
    """How fine the generated images are."""

    t1w_mm: float
    epi_mm: float
    shape: tuple[int, int, int]
    n_volumes: int
    warp: str
    long_mm: float
    long_shape: tuple[int, int, int]
    lengths: tuple[int, ...]


WHOLE = Size(1.0, 3.0, (72, 72, 44), 240, "full", 2.0, (104, 124, 84), (240, 1200))
SMALL = Size(2.0, 4.0, (52, 62, 42), 16, "fast", 4.0, (52, 62, 42), (12, 24))


@dataclass(frozen=True)
class Bench:
    """The folder of the generated data, and its size."""

    folder: Path
    size: Size

    def person(self) -> heads.Person:
        return self._load("person")

    def run(self, name: str = "run") -> heads.Run:
        return self._load(name)

    def keep(self, name: str, thing: Any) -> None:
        (self.folder / f"{name}.pkl").write_bytes(pickle.dumps(thing))

    def _load(self, name: str) -> Any:
        return pickle.loads((self.folder / f"{name}.pkl").read_bytes())  # noqa: S301 - our own, of this run

    @property
    def anatomy(self) -> embedded.AnatomyFiles:
        names = ("t1w.nii.gz", "mask.nii.gz", "dseg.nii.gz", "map.nii.gz", "facts.json")
        return embedded.AnatomyFiles(*(self.folder / f"anat_{name}" for name in names))

    def alignment(self, run: str) -> embedded.AlignmentFiles:
        names = ("ref.nii.gz", "mask.nii.gz", "xfm.json", "shift.nii.gz")
        return embedded.AlignmentFiles(*(self.folder / f"{run}_{name}" for name in names))

    def preprocessed(self, run: str) -> embedded.PreprocessedFiles:
        names = ("out.nii.gz", "out_mask.nii.gz", "out_dseg.nii.gz", "confounds.tsv", "out.json")
        return embedded.PreprocessedFiles(*(self.folder / f"{run}_{name}" for name in names))

    @property
    def settings(self) -> Preprocessing:
        return Preprocessing(registration=self.size.warp)


@dataclass(frozen=True)
class Found:
    """What a step found: its error in words, and the bounds it broke; `share` of the work that was done.

    `check` compares the step's files with the truth; it is called when the step has been timed.
    """

    error: str = ""
    broken: tuple[str, ...] = ()
    share: float = 1.0
    check: Callable[[], tuple[str, tuple[str, ...]]] | None = None


@dataclass(frozen=True)
class Row:
    """A step, by whom, its cost on one thread, and its error."""

    step: str
    by: str
    cpu_s: float
    wall_s: float
    peak_mb: float
    error: str


def main(arguments: list[str] | None = None) -> int:
    """Measure every step, print and write the table; return 1 when a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a coarse head, in about a minute; no bounds")
    parser.add_argument(
        "--steps", nargs="*", default=[], help="only steps whose name holds one of these words"
    )
    parser.add_argument("--ours", action="store_true", help="without the peers, which take most of the time")
    parser.add_argument("--table", type=Path, help="write the table here (TSV)")
    options = parser.parse_args(arguments)
    rows, missed = measure(SMALL if options.small else WHOLE, options.steps, ours=options.ours)
    if options.table:
        write_table(options.table, pd.DataFrame([asdict(row) for row in rows]), DESCRIPTIONS)
    missed = [] if options.small else missed
    for line in missed:
        print("missed:", line)
    return 1 if missed else 0


DESCRIPTIONS = {
    "step": "What was done",
    "by": "By whose code",
    "cpu_s": "Processor time of the step on one thread, s (extrapolated where the error says so)",
    "wall_s": "Wall time, s",
    "peak_mb": "Peak memory of the step's process, MB",
    "error": "Distance from the truth",
}


def measure(size: Size, words: list[str] | None = None, *, ours: bool = False) -> tuple[list[Row], list[str]]:
    """Return a row per step, and the bounds that were missed; with `ours` without the peers."""
    rows, missed = [], []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), size)
        asked = {key: work for key, work in STEPS.items() if not words or any(w in key[0] for w in words)}
        chosen = {key: work for key, work in asked.items() if not ours or key[1] == OURS}
        generate(bench, regions=any("anatomy" in step for step, _ in chosen))
        for (step, by), work in chosen.items():
            row, found = alone(step, by, work, bench)
            said = f"{row.step:34} {row.by:10} {row.cpu_s:8.1f} s {row.peak_mb:6.0f} MB  {row.error}"
            print(said, flush=True)
            rows.append(row)
            missed += [f"{step}: {line}" for line in found.broken]
    session = sum(row.cpu_s for row in rows if row.step in SESSION and row.by == OURS)
    if not words:
        rows.append(Row("one session, its three jobs", OURS, session, 0.0, 0.0, ""))
        print(f"one session: {session:.0f} s")
    if session > SESSION_CPU_S:
        missed.append(f"one session takes {session:.0f} s of processor time, at most {SESSION_CPU_S}")
    return rows, missed


def alone(step: str, by: str, work: Callable[[Any], Found], given: Any) -> tuple[Row, Found]:
    """Do a step in a fresh process, with the data that were generated for it."""
    context = get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_report, args=(there, work, given))
    process.start()
    there.close()
    found, cpu, wall, peak = here.recv()
    process.join()
    row = Row(step, by, round(cpu / found.share, 2), round(wall / found.share, 2), round(peak), found.error)
    return row, found


def _report(pipe: Any, work: Callable[[Any], Found], given: Any) -> None:
    started, before = time.monotonic(), time.process_time()
    found = work(given)
    cpu, wall, peak = time.process_time() - before, time.monotonic() - started, _peak_mb()
    if found.check:
        error, broken = found.check()
        found = replace(found, error=error, broken=broken, check=None)
    pipe.send((found, cpu, wall, peak))


def _peak_mb() -> float:
    """Peak memory of this process; getrusage tells its parent's, which outlives fork and exec."""
    [line] = [row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


# The generated data.


def generate(bench: Bench, *, regions: bool) -> None:
    """Write a person, the T1w, runs with known motion, and if asked for the regions on the template grid."""
    size = bench.size
    person = heads.draw_person(np.random.default_rng(11), t1w_mm=size.t1w_mm)
    bench.keep("person", person)
    _save(person.t1w.data, person.t1w.affine, bench.folder / "raw_T1w.nii.gz")
    shape = {"shape": size.shape, "voxel_mm": size.epi_mm}
    few = min(size.n_volumes, 24)
    scans: dict[str, dict[str, Any]] = {
        "run": {"n_volumes": size.n_volumes, "extent": 3.0},
        "snr20": {"n_volumes": few, "extent": 3.0, "snr": 20.0},
        "wild": {"n_volumes": few, "extent": 5.0},
    }
    for name, how in scans.items():
        scan = heads.scan(person, np.random.default_rng(5), **how, **shape)
        bench.keep(name, scan)
    run = bench.run()
    _save(np.stack(run.volumes, axis=-1), run.affine, bench.folder / "run_bold.nii.gz")
    if not regions:
        return
    study = load_study(workflow_folder() / "config" / "config.yaml")
    wanted = {name: study.rois.regions[name] for name in REGIONS}
    masks, affine, _ = rois.carry_atlas(Rois(regions=wanted), resolution=1.0 if size.warp == "full" else 2.0)
    bench.keep("regions", (masks, affine))


def _save(data: Any, affine: Any, path: Path) -> None:
    image = nibabel.Nifti1Image(data.astype(np.float32), affine)
    image.header.set_xyzt_units("mm", "sec")
    if data.ndim == 4:
        image.header.set_zooms((*image.header.get_zooms()[:3], TR))
    nibabel.save(image, path)


# The steps.


def motion_by_us(bench: Bench) -> Found:
    return _motion(bench.run(), mean=0.020, largest=0.05)


def motion_at_snr_20(bench: Bench) -> Found:
    return _motion(bench.run("snr20"), mean=0.05, largest=0.12)


def motion_of_five(bench: Bench) -> Found:
    return _motion(bench.run("wild"), mean=0.04, largest=0.12)


def motion_with_a_dark_slab(bench: Bench) -> Found:
    return _motion(heads.darkened(_few(bench.run())), mean=0.020, largest=0.05)


def motion_in_drift(bench: Bench) -> Found:
    return _motion(heads.drifting(_few(bench.run())), mean=0.16, largest=0.32)


@dataclass(frozen=True)
class _Moving:
    """Head motion in one of `moving.CASES`, beside the error of AFNI's 3dvolreg on such a case."""

    name: str

    def __call__(self, bench: Bench) -> Found:
        case = moving.CASES[self.name]
        seen = moving.move(case if bench.size.n_volumes > 100 else replace(case, n_volumes=8), seed=1)
        return Found(*_judged(seen, self.name))


def _judged(seen: moving.Moving, name: str) -> tuple[str, tuple[str, ...]]:
    found = head_motion.align_volumes(seen.volumes, Volume(seen.volumes[0], seen.affine), mask=seen.brain)
    errors = moving.displacements(found, seen)
    limits = zip(("mean", "worst"), (errors.mean(), errors.max()), moving.AFNI[name], strict=True)
    broken = [f"{what} {value:.3f} mm > {limit}" for what, value, limit in limits if value > limit]
    return f"{errors.mean():.3f} / {errors.max():.3f} mm (mean / worst volume of {len(errors)})", tuple(
        broken
    )


@dataclass(frozen=True)
class _Whole:
    """The brain in a head of one of `looks.LOOKS`, with the coarse warp."""

    name: str

    def __call__(self, bench: Bench) -> Found:
        said, overlap = looks.judged(_sized(looks.LOOKS[self.name], bench), finest_mm=COARSE_WARP_MM)
        short = f"Dice {overlap:.3f} < {looks.MIN_DICE}"
        return Found(said, (short,) if overlap < looks.MIN_DICE else ())


def no_heads(bench: Bench) -> Found:
    """What shows no T1-weighted head, of an ordinary look and with a bright scalp."""
    kinds = [_sized(looks.LOOKS[name], bench) for name in ("ordinary", "scalp three times as bright")]
    said = {
        f"{wrong}, scalp {look.scalp:g}": looks.refused(make(look), finest_mm=COARSE_WARP_MM)
        for look in kinds
        for wrong, make in looks.WRONG.items()
    }
    taken = tuple(f"{what} is taken for a head" for what, code in said.items() if not code)
    return Found(f"{len(taken)} of {len(said)} taken for a head", taken)


def _sized(look: looks.Look, bench: Bench) -> looks.Look:
    x, y, z = (max(edge, bench.size.t1w_mm) for edge in look.voxel_mm)
    return replace(look, voxel_mm=(x, y, z))


def motion_by_itk(bench: Bench) -> Found:
    run = bench.run()
    some = replace(run, volumes=run.volumes[:7], truth=run.truth[:7])
    images = [Volume(volume, run.affine) for volume in some.volumes]
    matrices = [np.eye(4), *(_itk_rigid(images[0], image, same=True) for image in images[1:])]
    errors = heads.motion_errors(np.array(matrices), some)[1:]
    share = 6 / len(run.volumes)
    return Found(f"{errors.mean():.3f} / {errors.max():.3f} mm (mean / worst of 6 volumes)", share=share)


def _few(run: heads.Run) -> heads.Run:
    return replace(run, volumes=run.volumes[:24], truth=run.truth[:24])


def _motion(run: heads.Run, *, mean: float, largest: float) -> Found:
    reference = Volume(run.volumes[0], run.affine)
    found = head_motion.align_volumes(run.volumes, reference, mask=run.brain)
    errors = heads.motion_errors(found, run)
    text = f"{errors.mean():.3f} / {errors.max():.3f} mm (mean / worst volume of {len(errors)})"
    limits = {"mean": (errors.mean(), mean), "worst": (errors.max(), largest)}
    broken = [f"{name} {value:.3f} mm > {limit}" for name, (value, limit) in limits.items() if value > limit]
    return Found(text, tuple(broken))


def anatomy_by_us(bench: Bench) -> Found:
    embedded.prepare_anatomy(
        {bench.folder / "raw_T1w.nii.gz": ""}, outputs=bench.anatomy, settings=bench.settings
    )
    return Found(check=lambda: _warp_error(bench, itk.read_warp(bench.anatomy.to_t1w)))


def anatomy_by_itk(bench: Bench) -> Found:
    """Affine by mutual information, then symmetric demons at 2 mm, told where the brain is."""
    import SimpleITK

    person = bench.person()
    target = templates.target_grid(2.0)
    brain = registration.read_volume(templates.target_brain())
    points = registration.grid_points(*target)
    fixed = Volume(registration.sample(brain, points, order=1), target[1])
    affine = _itk_rigid(fixed, registration.downsample(person.t1w, 2.0), same=False, affine=True)
    moved = registration.sample(person.t1w, registration.transform_points(affine, points), order=1)
    inside = registration.dilated(fixed.data > 0, 4.0, fixed.affine)
    images = [registration.to_itk(Volume(np.where(inside, v, 0), target[1])) for v in (fixed.data, moved)]
    matched = SimpleITK.HistogramMatching(images[1], images[0], 256, 16)
    demons = SimpleITK.FastSymmetricForcesDemonsRegistrationFilter()
    demons.SetNumberOfIterations(150)
    demons.SetStandardDeviations(1.5)
    demons.SetNumberOfWorkUnits(1)
    field = SimpleITK.GetArrayFromImage(demons.Execute(images[0], matched)).transpose(2, 1, 0, 3)
    displacement = field * np.array([-1.0, -1.0, 1.0])
    found = registration.dense_map(fixed, matrix=affine, displacement=displacement)
    return Found(check=lambda: (_warp_error(bench, found)[0], ()))


def _warp_error(bench: Bench, to_t1w: Volume) -> tuple[str, tuple[str, ...]]:
    person, (masks, affine) = bench.person(), bench._load("regions")
    brain = registration.read_volume(templates.target_brain())
    points = registration.grid_points(brain.data.shape, brain.affine)[brain.data > 0][::61]
    missed = np.linalg.norm(registration.sample_map(to_t1w, points) - person.to_person(points), axis=1)
    mean, far = missed.mean(), np.percentile(missed, 95)
    there = np.argwhere(masks.any(axis=-1))
    low, high = there.min(axis=0) - 5, there.max(axis=0) + 6
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    grid = registration.grid_points(masks.shape[:3], affine)[box]
    # Anywhere in the voxels: from their centres, errors below half a voxel would go unseen.
    grid = grid + np.random.default_rng(1).uniform(-0.5, 0.5, grid.shape) * np.diag(affine)[:3]
    back = person.to_template(registration.sample_map(to_t1w, grid))
    overlaps = []
    for index in range(masks.shape[-1]):
        here = registration.sample(Volume(masks[..., index], affine), grid, order=0) > 0.5
        seen = registration.sample(Volume(masks[..., index], affine), back, order=0) > 0.5
        overlaps.append(2 * (here & seen).sum() / (here.sum() + seen.sum()))
    shown = [np.mean(overlaps[:2]), np.mean(overlaps[2:4]), overlaps[4]]
    dice = " ".join(f"{value:.3f}" for value in shown)
    text = f"{mean:.2f} / {far:.2f} mm (mean / p95); Dice amygdala, hippocampus, vmPFC {dice}"
    limits = [("mean", mean > 0.40), ("p95", far > 0.90), ("Dice", min(shown) < 0.94)]
    return text, tuple(f"{name} out of bounds: {text}" for name, out in limits if out)


def placed_by_us(bench: Bench) -> Found:
    """From the headers, 10 mm and 10 degrees off."""
    given = bench.anatomy
    t1w, dseg = registration.read_volume(given.t1w), registration.read_volume(given.dseg)
    return _placed(bench, lambda volume: coregistration.align_to_t1w(volume, t1w, dseg)[0], most=0.25)


def placed_by_itk(bench: Bench) -> Found:
    t1w = registration.downsample(registration.read_volume(bench.anatomy.t1w), 2.0)
    return _placed(bench, lambda volume: _itk_rigid(volume, t1w, same=False), most=np.inf)


def _placed(bench: Bench, place: Callable[[Volume], Any], *, most: float) -> Found:
    """Place single volumes spread over the run; cost is that of one."""
    run, errors = bench.run(), []
    for number in np.linspace(0, len(run.volumes) - 1, N_PLACED).astype(int):
        found = place(Volume(run.volumes[number], run.affine))
        errors.append(_placement_error(run, found @ run.truth[number]))
    text = f"{np.mean(errors):.2f} / {max(errors):.2f} mm (mean / worst of {N_PLACED} volumes)"
    return Found(text, (f"{text} > {most}",) if max(errors) > most else (), share=N_PLACED)


def _placement_error(run: heads.Run, found: Any) -> float:
    points = registration.grid_points(run.brain.shape, run.affine)[run.brain][::40]
    there, truth = (registration.transform_points(matrix, points) for matrix in (found, run.epi_to_t1w))
    return float(np.linalg.norm(there - truth, axis=1).mean())


def align_by_us(bench: Bench) -> Found:
    raw = bench.folder / "raw_T1w.nii.gz"
    out = bench.alignment("run")
    embedded.align_run(bench.folder / "run_bold.nii.gz", raw, bench.anatomy, outputs=out)
    return Found(f"cost {json.loads(out.alignment.read_text())['coregistration_cost']:.2f}")


def resample_by_us(bench: Bench) -> Found:
    out = bench.preprocessed("run")
    bold = bench.folder / "run_bold.nii.gz"
    embedded.resample_run(
        bold, TR, bench.anatomy, bench.alignment("run"), outputs=out, settings=bench.settings
    )
    return Found(check=lambda: _mean_signal(bench, out))


def _mean_signal(bench: Bench, out: embedded.PreprocessedFiles) -> tuple[str, tuple[str, ...]]:
    person = bench.person()
    inside = np.asarray(nibabel.load(out.mask).dataobj) > 0
    deep = ndimage.binary_erosion(inside, iterations=3)
    image = nibabel.load(out.bold, keep_file_open=True)
    seen = np.mean([np.asarray(image.dataobj[..., n])[deep].mean() for n in range(0, image.shape[3], 8)])
    blur = bench.size.epi_mm / 2.355 / 2
    model = Volume(ndimage.gaussian_filter(person.t2star.data, blur), person.t2star.affine)
    there = registration.grid_points(inside.shape, image.affine)[deep]
    truth = registration.sample(model, there, order=1).mean()
    off = 100 * (seen / truth - 1)
    text = f"mean signal {off:+.2f} %"
    return text, (text,) if abs(off) > 0.5 else ()


def resample_by_nilearn(bench: Bench) -> Found:
    """The affine part alone, which is all that nilearn can apply, of ten volumes; no confounds."""
    from nilearn.image import index_img, resample_img

    shape, affine = templates.target_grid(2.0)
    some = index_img(str(bench.folder / "run_bold.nii.gz"), slice(0, 10))
    resample_img(
        some, target_affine=affine, target_shape=shape, interpolation="continuous",
        force_resample=True, copy_header=True,
    )  # fmt: skip
    return Found("(extrapolated from 10 volumes)", share=10 / bench.size.n_volumes)


@dataclass(frozen=True)
class _LongAlign:
    place: int

    def __call__(self, bench: Bench) -> Found:
        name = _long_run(bench, bench.size.lengths[self.place])
        raw = bench.folder / "raw_T1w.nii.gz"
        embedded.align_run(bench.folder / f"{name}.nii.gz", raw, bench.anatomy, outputs=bench.alignment(name))
        return _memory()


@dataclass(frozen=True)
class _LongResample:
    place: int

    def __call__(self, bench: Bench) -> Found:
        name = _long_run(bench, bench.size.lengths[self.place])
        bold, out = bench.folder / f"{name}.nii.gz", bench.preprocessed(name)
        embedded.resample_run(
            bold, TR, bench.anatomy, bench.alignment(name), outputs=out, settings=bench.settings
        )
        rows = len(out.confounds.read_text().splitlines()) - 1
        out.bold.unlink()
        return _memory(f"{rows} volumes")


def _memory(text: str = "") -> Found:
    peak = _peak_mb()
    return Found(text, (f"peak memory {peak:.0f} MB > {PEAK_MB}",) if peak > PEAK_MB else ())


def _long_run(bench: Bench, n_volumes: int) -> str:
    """Write a long run of fine voxels, volume by volume, once; return its name."""
    size, name = bench.size, f"long{n_volumes}"
    path = bench.folder / f"{name}.nii.gz"
    if path.exists():
        return name
    rng = np.random.default_rng(9)
    scan = heads.scan(
        bench.person(), rng, n_volumes=1, extent=1.0, jumps=False, snr=1e6,
        shape=size.long_shape, voxel_mm=size.long_mm,
    )  # fmt: skip
    still = scan.volumes[0]
    header = nibabel.Nifti1Image(np.zeros((2, 2, 2, 2), np.int16), scan.affine).header
    header.set_data_shape((*size.long_shape, n_volumes))
    header.set_zooms((*[size.long_mm] * 3, TR))
    header.set_xyzt_units("mm", "sec")
    header["magic"], header["vox_offset"] = b"n+1", 352
    header.set_slope_inter(1, 0)
    with Opener(str(path), "wb", compresslevel=1) as stream:
        stream.write(header.binaryblock + b"\0" * 4)
        for _ in range(n_volumes):
            noisy = still * 8 + rng.standard_normal(still.shape, dtype=np.float32) * 8
            stream.write(np.clip(noisy, 0, 32767).astype(np.int16).tobytes(order="F"))
    return name


def _itk_rigid(fixed: Volume, moving: Volume, *, same: bool, affine: bool = False) -> Any:
    """Return the (4, 4) matrix, RAS mm, from `fixed` to `moving` by SimpleITK's registration."""
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    still, mobile = registration.to_itk(fixed), registration.to_itk(moving)
    start = SimpleITK.CenteredTransformInitializer(
        still, mobile,
        SimpleITK.AffineTransform(3) if affine else SimpleITK.Euler3DTransform(),
        SimpleITK.CenteredTransformInitializerFilter.MOMENTS,
    )  # fmt: skip
    method = SimpleITK.ImageRegistrationMethod()
    if same:
        method.SetMetricAsMeanSquares()
    else:
        method.SetMetricAsMattesMutualInformation(32)
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(0.3, 1)
    method.SetInterpolator(SimpleITK.sitkBSpline if same else SimpleITK.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-4, 200, relaxationFactor=0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([2, 1, 0])
    method.SetInitialTransform(start, inPlace=True)
    method.Execute(still, mobile)
    ends = np.vstack([np.zeros(3), np.eye(3) * 100])
    flip = np.diag([-1.0, -1.0, 1.0])
    there = np.array([flip @ np.array(start.TransformPoint(tuple(flip @ end))) for end in ends])
    matrix = np.eye(4)
    matrix[:3, 3] = there[0]
    matrix[:3, :3] = ((there[1:] - there[0]) / 100).T
    return matrix


OURS, ITK, NILEARN = "reconfmri", "SimpleITK", "nilearn"
SESSION = ("prepare_anatomy", "align_run", "resample_run with confounds")
STEPS: dict[tuple[str, str], Callable[[Bench], Found]] = {
    ("head motion, SNR 50, 3 mm and degrees", OURS): motion_by_us,
    ("head motion, SNR 50, 3 mm and degrees", ITK): motion_by_itk,
    ("head motion, SNR 20", OURS): motion_at_snr_20,
    ("head motion, 5 mm and degrees", OURS): motion_of_five,
    ("head motion, dark slab", OURS): motion_with_a_dark_slab,
    ("head motion, drifting field", OURS): motion_in_drift,
    **{(f"moving head, {name}", OURS): _Moving(name) for name in moving.CASES},
    **{(f"whole head, {name}", OURS): _Whole(name) for name in looks.LOOKS},
    ("what is no head", OURS): no_heads,
    ("prepare_anatomy", OURS): anatomy_by_us,
    ("prepare_anatomy", ITK): anatomy_by_itk,
    ("EPI to T1w", OURS): placed_by_us,
    ("EPI to T1w", ITK): placed_by_itk,
    ("align_run", OURS): align_by_us,
    ("resample_run with confounds", OURS): resample_by_us,
    ("resample_run with confounds", NILEARN): resample_by_nilearn,
    ("align_run, short fine run", OURS): _LongAlign(0),
    ("resample_run, short fine run", OURS): _LongResample(0),
    ("align_run, long fine run", OURS): _LongAlign(1),
    ("resample_run, long fine run", OURS): _LongResample(1),
}
