"""Field maps of every BIDS kind as one thing: the field in Hz where the T1w is, continued beyond the brain.

BIDS 1.10, field map data: phase difference, two phase images, a field in Hz, EPIs of opposite direction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from reconfmri import registration
from reconfmri.acquisition import PhaseEncoding, phase_encoding
from reconfmri.exclusions import DataFault
from reconfmri.fieldmaps import NEEDED, PAIR, Fieldmap, echo_spacing, field_unit
from reconfmri.preprocess import coregistration, head_motion, intake
from reconfmri.preprocess.unwarping import LEVELS, Distortion, Seen, displacement
from reconfmri.registration import Array, Volume

TURN = 2 * np.pi
STEPS = 4096  # of a turn, as scanners write it in 12 bits
MASKED_SHARE = 0.05  # of voxels with one and the same value: no noise has so many
# Widths (FWHM, mm) by which the field is smoothed where it is known, and further and further beyond.
WIDTHS = (4.0, 8.0, 16.0, 32.0, 64.0)


@dataclass(frozen=True)
class FieldMap:
    """The field in Hz on a grid of its own, and the rigid map (4, 4) from the T1w to it, RAS mm."""

    hertz: Volume
    from_t1w: Array


def read(given: Fieldmap, t1w: Volume, dseg: Volume, *, run: tuple[Volume, Mapping[str, Any]]) -> FieldMap:
    """Return the field map of the files `given`, by whatever method.

    `run` is the reference volume and the sidecar of the run: the other half of a pair that lacks one.

    Raises
    ------
    DataFault
        A file is damaged (E-DATA-B01 ...), its sidecar lacks what is needed (E-DATA-B25, B26), or it could
        not be placed in the T1w (E-DATA-B21).
    """
    if given.method == PAIR:
        epis = [(intake.read_mean(Path(path)), given.sidecars[role]) for role, path in given.files.items()]
        pair = epis[0], epis[1] if len(epis) > 1 else run
        return _from_pair(*pair, t1w, dseg)
    magnitude = intake.read_anatomy(Path(given.files["magnitude"]))
    mask = coregistration.signal_mask(magnitude)
    images = {role: _on_grid_of(magnitude, Path(given.files[role])) for role in NEEDED[given.method]}
    if given.method == "fieldmap":
        hertz = images["fieldmap"] * field_unit(
            given.sidecars["fieldmap"], Path(given.files["fieldmap"]).name
        )
    else:
        phase, seconds = _phase_difference(given, images)
        hertz = unwrapped(phase, mask) / (TURN * seconds)
    weight = np.where(mask, magnitude.data / np.median(magnitude.data[mask]), 0.0)
    smooth = continued(hertz, np.clip(weight, 0, 2) ** 2, magnitude.voxel_mm)
    return FieldMap(Volume(smooth, magnitude.affine), coregistration.rigid_from_t1w(magnitude, t1w, dseg))


def _from_pair(
    one: tuple[Volume, Mapping[str, Any]], other: tuple[Volume, Mapping[str, Any]], t1w: Volume, dseg: Volume
) -> FieldMap:
    """Return the field map of two EPIs of opposite phase encoding, between which the head may have moved."""
    encodings = [phase_encoding(sidecar, image.data.shape) for image, sidecar in (one, other)]
    return from_pair((one[0], other[0]), (encodings[0], encodings[1]), t1w, dseg)


def from_pair(
    pair: tuple[Volume, Volume], encodings: tuple[PhaseEncoding, PhaseEncoding], t1w: Volume, dseg: Volume
) -> FieldMap:
    """Return the field map of two EPIs of opposite phase encoding, between which the head may have moved.

    Raises
    ------
    DataFault
        The straightened image could not be placed in the T1w (E-DATA-B21).
    """
    first, second = pair
    mm_per_hz = [e.voxels_per_hz * image.voxel_mm[e.axis] for e, image in zip(encodings, pair, strict=True)]
    ratio = mm_per_hz[1] / mm_per_hz[0]
    shift, straight = _shift_between(first, second, [e.axis for e in encodings], ratio)
    to_t1w, _ = coregistration.align_to_t1w(straight, t1w, dseg)
    return FieldMap(Volume(shift.data / mm_per_hz[0], shift.affine), np.linalg.inv(to_t1w))


def _shift_between(first: Volume, second: Volume, axes: list[int], ratio: float) -> tuple[Volume, Volume]:
    """Return the shift (mm along the first image's axis) and the first image without it."""
    moved = np.eye(4)
    mask = registration.dilated(coregistration.signal_mask(first), 6.0, first.affine)
    directions = [
        image.affine[:3, axis] / image.voxel_mm[axis]
        for image, axis in zip((first, second), axes, strict=True)
    ]
    points = registration.grid_points(first.data.shape, first.affine)
    found = Distortion(Volume(np.zeros(first.data.shape), first.affine), axes[0])
    for level in LEVELS:
        seen = Seen(first, directions[0], 1.0, np.eye(4)), Seen(second, directions[1], ratio, moved)
        shift = displacement(*seen, mask, levels=[level], start=found.shift)
        found = Distortion(shift, axes[0])
        if level == LEVELS[-1]:
            break
        straight = found.straightened(first)
        there = registration.transform_points(moved, points) + ratio * shift.data[..., None] * directions[1]
        other = registration.sample(second, there) * (1 + ratio * (found.stretch(points) - 1))
        moved = moved @ head_motion.align_volumes([other], straight, mask=mask)[0]
    return found.shift, found.straightened(first)


def unwrapped(phase: Array, mask: Array) -> Array:
    """Return a phase image (rad) without its jumps of a turn inside `mask`, around a median near zero.

    Herraez et al., Applied Optics 2002;41:7437; Abdul-Rahman et al., Applied Optics 2007;46:6623.
    """
    from skimage.restoration import unwrap_phase

    around: Any = np.ma.array(phase, mask=~mask)
    found = np.ma.filled(unwrap_phase(around, rng=registration.SEED), 0.0)  # type: ignore[no-untyped-call]
    found -= TURN * np.round(np.median(found[mask]) / TURN)
    return np.asarray(np.where(mask, found, 0.0))


def continued(field: Array, weight: Array, voxel_mm: Array) -> Array:
    """Return a field that is smoothed where it is known (`weight` > 0) and continues smoothly elsewhere."""
    result = np.full(field.shape, np.average(field, weights=weight))
    for width in reversed(WIDTHS):
        sigma = width / 2.355 / voxel_mm
        known = ndimage.gaussian_filter(weight.astype(np.float64), sigma, truncate=3)
        rest = ndimage.gaussian_filter((field - result) * weight, sigma, truncate=3)
        near = ndimage.gaussian_filter((weight > 0).astype(np.float64), sigma, truncate=3)
        # Beyond the known part the finer level fades out; what is coarser stands.
        result = result + np.clip(2 * near, 0, 1) * rest / np.maximum(known, 1e-6 * known.max())
    return np.asarray(result.astype(np.float32))


def _phase_difference(given: Fieldmap, images: Mapping[str, Array]) -> tuple[Array, float]:
    """Return the phase that accrued between two echoes (rad) and the time between them (s)."""
    if given.method == "phasediff":
        known = given.sidecars["phasediff"]
        echoes = [known.get("EchoTime1"), known.get("EchoTime2")]
        name = Path(given.files["phasediff"]).name
        return _radians(images["phasediff"], name), echo_spacing(echoes, name)
    one, two = (_radians(images[role], Path(given.files[role]).name) for role in ("phase1", "phase2"))
    echoes = [given.sidecars[role].get("EchoTime") for role in ("phase1", "phase2")]
    return np.angle(np.exp(1j * (two - one))), echo_spacing(echoes, given.files["phase1"])


def _radians(phase: Array, file: str = "") -> Array:
    """Return phase in rad: as it is within one turn around zero, else its range taken for one turn.

    Noise around the head fills the turn. Where it was masked by one value, the range says nothing: scanners
    write a turn as 4096 steps, from zero or around it.

    Raises
    ------
    DataFault
        It is masked, and not in such steps (E-DATA-B26).
    """
    low, high = float(phase.min()), float(phase.max())
    if high - low <= TURN * 1.01:
        return phase
    values, counts = np.unique(phase, return_counts=True)
    if counts.max() <= MASKED_SHARE * phase.size:
        return (phase - low) / (high - low) * TURN - np.pi
    head = np.delete(values, counts.argmax())
    whole = bool((values == np.round(values)).all())
    step = int(np.gcd.reduce(np.diff(head).astype(np.int64))) if whole and len(head) > 1 else 0
    if not step or head.max() - head.min() > STEPS * step:
        reason = "phase is masked and not in 4096 steps to the turn, so its scale is not known"
        fix = "take the phase image as the scanner made it, not masked; or convert it to rad"
        raise DataFault("E-DATA-B26", reason, fix=fix, file=file)
    zero = STEPS * step / 2 if head.min() >= 0 else 0.0
    return np.where(phase == values[counts.argmax()], 0.0, (phase - zero) / (STEPS * step) * TURN)


def _on_grid_of(magnitude: Volume, path: Path) -> Array:
    image = intake.read_anatomy(path)
    if image.data.shape != magnitude.data.shape or np.abs(image.affine - magnitude.affine).max() > 0.01:
        reason = "field map and magnitude are not on one grid"
        raise DataFault("E-DATA-B26", reason, fix="convert both from the same series again", file=path.name)
    return image.data.astype(np.float64)
