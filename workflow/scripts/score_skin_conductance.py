"""Scores per script and condition from the skin conductance of one run, and the picture of the recording."""

from pathlib import Path

from reconfmri.body.recordings import trigger_fault
from reconfmri.body.scores import write_scripts
from reconfmri.body.skin_conductance import measures_of, prepare, remarks, score_scripts
from reconfmri.channels import choose_recording
from reconfmri.config import SkinConductance, Task
from reconfmri.events import read_events
from reconfmri.figures.recordings import skin_conductance
from reconfmri.figures.style import light_png
from reconfmri.measures import write_rows
from reconfmri.step import run_step


def work(snakemake, decisions):
    given, out, params = snakemake.input, snakemake.output, snakemake.params
    task, settings = Task.from_params(params.task), SkinConductance.from_params(params.settings)
    recording, sidecar = choose_recording(
        list(map(Path, given.physio)), params.sidecars, "skin_conductance", settings.column
    )
    prepared = prepare(recording, sidecar, settings)
    scripts = score_scripts(prepared, read_events(given.events, task.column), task=task, settings=settings)
    Path(out.picture).write_bytes(light_png(skin_conductance(prepared, scripts, recording.name)))
    write_scripts(out.scripts, scripts)
    rows, faults = measures_of(scripts, prepared, settings)
    for fault in [*faults, *remarks(prepared), *trigger_fault(recording, sidecar, params.tr)]:
        decisions.add(snakemake.rule, fault)
    write_rows(out.measures, rows, decisions.unit)


run_step(snakemake, work)
