"""Voxelwise effect, variance and z of the contrasts of one run that the study asks maps for."""

from pathlib import Path

import nibabel as nib

from reconfmri.config import FirstLevel, Task
from reconfmri.signal.first_level import maps
from reconfmri.step import run_step
from reconfmri.tables import read_table


def work(snakemake, _decisions):
    given = snakemake.input
    settings = FirstLevel.from_params(snakemake.params.settings)
    found = maps(
        Path(given.bold),
        Path(given.mask),
        read_table(given.design).astype(float),
        contrasts={name: settings.every_contrast[name] for name in settings.maps},
        task=Task.from_params(snakemake.params.task).windowed,
        smoothing=settings.smoothing,
        noise=settings.noise,
    )
    images = [
        image for name in settings.maps for image in (found[name].effect, found[name].variance, found[name].z)
    ]
    for image, path in zip(images, snakemake.output.maps, strict=True):
        nib.save(image, path)


run_step(snakemake, work)
