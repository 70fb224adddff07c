"""Numbers and pictures of one run, and whether it stays in the study."""

from pathlib import Path

from reconfmri.config import Quality
from reconfmri.figures import scans
from reconfmri.measures import write_rows
from reconfmri.preprocess import PreprocessedRun
from reconfmri.quality import assess_run
from reconfmri.step import run_step
from reconfmri.tables import read_table


def work(snakemake, decisions):
    given, out = snakemake.input, snakemake.output
    run = PreprocessedRun.open(
        *map(Path, (given.bold, given.mask, given.dseg, given.confounds, given.metadata))
    )
    coverage = read_table(given.coverage, numeric=("coverage", "tsnr"))
    rows, faults = assess_run(run, coverage, Quality.from_params(snakemake.params.settings))
    for fault in faults:
        decisions.add(snakemake.rule, fault)
    write_rows(out.measures, rows, decisions.unit)
    scans.draw_outlines(Path(given.boldref), Path(given.boldref_mask), Path(out.outlines))
    scans.draw_edges(Path(given.boldref), Path(given.t1w), Path(given.alignment), Path(out.edges))


run_step(snakemake, work)
