"""Voxelwise effect, variance and z of the contrasts of one run that the study asks maps for."""

from pathlib import Path

import nibabel as nib

from reconfmri.config import FirstLevel, Task
from reconfmri.events import cut_windows, read_events
from reconfmri.signal.contrasts import contrasts_of_run
from reconfmri.signal.voxelwise import maps
from reconfmri.step import run_step
from reconfmri.tables import read_table


def work(snakemake, _decisions):
    given, params = snakemake.input, snakemake.params
    settings, task = FirstLevel.from_params(params.settings), Task.from_params(params.task)
    design = read_table(given.design).astype(float)
    events, task = cut_windows(read_events(given.events, task.column, settings.rating_columns), task)
    contrasts, _ = contrasts_of_run(settings, task, events, duration=params.tr * len(design))
    found = maps(
        Path(given.bold),
        Path(given.mask),
        design,
        contrasts={name: contrasts[name] for name in settings.maps if name in contrasts},
        task=task,
        smoothing=settings.smoothing,
        noise=settings.noise,
    )
    # Empty where the run lacks a contrast, as its exclusions of the step before say.
    empty = (None, None, None)
    images = [
        image
        for name in settings.maps
        for image in ((found[name].effect, found[name].variance, found[name].z) if name in found else empty)
    ]
    for image, path in zip(images, snakemake.output.maps, strict=True):
        nib.save(image, path) if image else Path(path).write_bytes(b"")


run_step(snakemake, work)
