"""Mean signal, coverage and temporal SNR of each region in one run."""

from pathlib import Path

from reconfmri.bids import read_json
from reconfmri.config import Rois
from reconfmri.rois import COVERAGE_DESCRIPTIONS, extract_region_signals
from reconfmri.step import run_step
from reconfmri.tables import write_table


def work(snakemake, decisions):
    given, out = snakemake.input, snakemake.output
    made = read_json(Path(given.metadata))
    signals, coverage, faults = extract_region_signals(
        Path(given.bold),
        Path(given.mask),
        Path(given.regions),
        Rois.from_params(snakemake.params.settings),
        non_steady=made["NonSteadyStateVolumes"],
        damaged=made.get("DamagedVolumes", []),
    )
    for fault in faults:
        decisions.add(snakemake.rule, fault)
    write_table(out.signals, signals)
    write_table(out.coverage, coverage, COVERAGE_DESCRIPTIONS)


run_step(snakemake, work)
