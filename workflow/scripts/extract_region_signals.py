"""Mean signal, coverage and temporal SNR of each region in one run."""

from pathlib import Path

from reconfmri.bids import read_json
from reconfmri.config import Rois
from reconfmri.derivatives import chosen_numbers, find_segmentation, numbers_of_labels, place_of
from reconfmri.exclusions import DataFault
from reconfmri.rois import COVERAGE_DESCRIPTIONS, Segmentation, extract_region_signals
from reconfmri.step import run_step
from reconfmri.tables import write_table


def segmentation(params, rois):
    """The person's own segmentation, why there is none, or nothing where no region is of it."""
    asked = params.segmentation
    if asked is None:
        return None
    root = place_of(Path(), str(params.root))
    try:
        image = find_segmentation(root, asked["raw"], rois.segmentation, res=asked["res"])
    except DataFault as fault:
        return fault
    return Segmentation(image, chosen_numbers(rois, numbers_of_labels(root, rois.segmentation)))


def work(snakemake, decisions):
    given, out = snakemake.input, snakemake.output
    made = read_json(Path(given.metadata))
    rois = Rois.from_params(snakemake.params.settings)
    signals, coverage, faults = extract_region_signals(
        Path(given.bold),
        Path(given.mask),
        Path(given.regions),
        rois,
        non_steady=made["NonSteadyStateVolumes"],
        damaged=made.get("DamagedVolumes", []),
        own=segmentation(snakemake.params, rois),
    )
    for fault in faults:
        decisions.add(snakemake.rule, fault)
    write_table(out.signals, signals)
    write_table(out.coverage, coverage, COVERAGE_DESCRIPTIONS)


run_step(snakemake, work)
