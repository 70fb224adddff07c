"""Heart rate, respiration and EMG per script and condition of one run, and the picture of its recordings."""

from pathlib import Path

from reconfmri.body.physiology import score_physiology
from reconfmri.body.scores import write_scripts
from reconfmri.config import Physiology, Task
from reconfmri.events import read_events
from reconfmri.figures.recordings import physiology
from reconfmri.figures.style import light_png
from reconfmri.measures import write_rows
from reconfmri.step import run_step


def work(snakemake, decisions):
    given, out, params = snakemake.input, snakemake.output, snakemake.params
    task, settings = Task.from_params(params.task), Physiology.from_params(params.settings)
    scored = score_physiology(
        list(map(Path, given.physio)),
        read_events(given.events, task.column),
        sidecars=params.sidecars,
        task=task,
        settings=settings,
    )
    Path(out.picture).write_bytes(light_png(physiology(scored)) if scored.channels else b"")
    write_scripts(out.scripts, scored.scripts)
    for fault in scored.faults:
        decisions.add(snakemake.rule, fault)
    write_rows(out.measures, scored.rows, decisions.unit)


run_step(snakemake, work)
