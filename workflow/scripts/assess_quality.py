"""Numbers and pictures of one run, and whether it stays in the study."""

from pathlib import Path

import nibabel as nib

from reconfmri.bids import read_json
from reconfmri.config import Quality, Rois, Task
from reconfmri.figures.carpet import Carpet, carpet_voxels
from reconfmri.figures.scans import RunFiles, pictures_of_run
from reconfmri.figures.style import light_png
from reconfmri.measures import write_rows
from reconfmri.preprocess import PreprocessedRun
from reconfmri.quality import Reference, assess_run, phase_axis, read_series
from reconfmri.step import run_step
from reconfmri.tables import read_table


def work(snakemake, decisions):
    given, out, params = snakemake.input, snakemake.output, snakemake.params
    files = map(Path, (given.bold, given.mask, given.confounds, given.dseg))
    run = PreprocessedRun(*files, metadata=read_json(Path(given.metadata)))
    voxels, tissue = carpet_voxels(nib.load(run.mask), nib.load(run.dseg))
    series = read_series(run, keep=voxels)
    coverage = read_table(given.coverage, numeric=("coverage", "tsnr"))
    reference = None
    if given.alignment:  # else the reference volume was resampled, and its ghost with it
        reference = Reference(Path(given.boldref), Path(given.boldref_mask), phase_axis(params.encoding))
    settings = Quality.from_params(params.settings)
    rows, faults = assess_run(run, coverage, settings, reference=reference, series=series)
    for fault in faults:
        decisions.add(snakemake.rule, fault)
    write_rows(out.measures, rows, decisions.unit)
    alignment = Path(given.alignment) if given.alignment else None
    events = Path(given.events) if given.events else None
    pictures = pictures_of_run(
        RunFiles(
            Path(given.boldref),
            Path(given.boldref_mask),
            alignment,
            Path(given.t1w),
            run.bold,
            run.mask,
            run.confounds,
            Path(given.regions),
            events,
        ),
        Carpet(series.kept, tissue),
        series.tsnr,
        rois=Rois.from_params(params.rois),
        task=Task.from_params(params.task),
        tr=params.tr,
        fd_threshold=settings.fd_threshold,
    )
    for kind, figure in pictures.items():
        Path(out[kind]).write_bytes(light_png(figure))


run_step(snakemake, work)
