"""A response score per condition from the skin conductance of one run."""

from pathlib import Path

from reconfmri.config import SkinConductance, Task
from reconfmri.events import read_events
from reconfmri.measures import write_rows
from reconfmri.skin_conductance import score_recording
from reconfmri.step import run_step


def work(snakemake, decisions):
    given, params = snakemake.input, snakemake.params
    task = Task.from_params(params.task)
    rows, faults = score_recording(
        Path(given.physio),
        read_events(given.events, task.column),
        sidecar=params.sidecar,
        task=task,
        settings=SkinConductance.from_params(params.settings),
    )
    for fault in faults:
        decisions.add(snakemake.rule, fault)
    write_rows(snakemake.output.measures, rows, decisions.unit)


run_step(snakemake, work)
