"""Numbers and pictures of one run, and whether it stays in the study."""

from pathlib import Path

from reconfmri.bids import read_json, read_sidecar
from reconfmri.config import Quality
from reconfmri.figures import scans
from reconfmri.measures import write_rows
from reconfmri.preprocess import PreprocessedRun
from reconfmri.quality import Reference, assess_run, phase_axis
from reconfmri.step import run_step
from reconfmri.tables import read_table


def work(snakemake, decisions):
    given, out = snakemake.input, snakemake.output
    files = map(Path, (given.bold, given.mask, given.confounds, given.dseg))
    run = PreprocessedRun(*files, metadata=read_json(Path(given.metadata)))
    coverage = read_table(given.coverage, numeric=("coverage", "tsnr"))
    reference = None
    if given.alignment:  # else the reference volume was resampled, and its ghost with it
        axis = phase_axis(read_sidecar(Path(snakemake.params.bids), snakemake.params.bold))
        reference = Reference(Path(given.boldref), Path(given.boldref_mask), axis)
    settings = Quality.from_params(snakemake.params.settings)
    rows, faults = assess_run(run, coverage, settings, reference=reference)
    for fault in faults:
        decisions.add(snakemake.rule, fault)
    write_rows(out.measures, rows, decisions.unit)
    alignment = Path(given.alignment) if given.alignment else None
    aligned = scans.Aligned(Path(given.boldref), Path(given.boldref_mask), alignment, Path(given.t1w))
    scans.outlines_of_run(aligned.boldref, aligned.mask).save(out.outlines)
    scans.edges_of_run(aligned, Path(given.bold), Path(given.mask)).save(out.edges)


run_step(snakemake, work)
