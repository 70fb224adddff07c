"""Connectivity of the region pairs of one run, per condition and contrast, by every estimator."""

from reconfmri.config import Connectivity, Task
from reconfmri.events import read_events, start_time
from reconfmri.measures import write_rows
from reconfmri.signal.connectivity import PAIRS, couple
from reconfmri.step import run_step
from reconfmri.tables import read_table


def work(snakemake, decisions):
    given, out, params = snakemake.input, snakemake.output, snakemake.params
    task = Task.from_params(params.task)
    rows, faults = couple(
        read_table(given.signals).astype(float),
        read_table(given.confounds).astype(float),
        read_events(given.events, task.column) if given.get("events") else None,
        tr=params.tr,
        task=task,
        settings=Connectivity.from_params(params.settings),
        start=start_time(given.metadata),
    )
    for fault in faults:
        decisions.add(snakemake.rule, fault)
    PAIRS.write(out.pairs, rows.loc[rows["estimator"].notna(), PAIRS.names])
    write_rows(out.measures, rows, decisions.unit)


run_step(snakemake, work)
