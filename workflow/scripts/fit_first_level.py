"""Contrasts of one run per region, in percent signal change with their standard error."""

from reconfmri.config import FirstLevel, Task
from reconfmri.events import cut_windows
from reconfmri.measures import write_rows
from reconfmri.signal.contrasts import contrasts_of_run
from reconfmri.signal.first_level import build_design, fit_regions, read_events, start_time
from reconfmri.signal.single_scripts import SCRIPTS, single_scripts
from reconfmri.step import run_step
from reconfmri.tables import read_table, write_table


def work(snakemake, decisions):
    given, out, params = snakemake.input, snakemake.output, snakemake.params
    settings, task = FirstLevel.from_params(params.settings), Task.from_params(params.task)
    signals = read_table(given.signals).astype(float)
    coverage = read_table(given.coverage, numeric=("coverage",)).set_index("region")["coverage"]
    ratings = settings.rating_columns
    events, task = cut_windows(read_events(given.events, task.column, ratings), task)
    start = start_time(given.metadata)
    design = build_design(
        events,
        read_table(given.confounds).astype(float),
        tr=params.tr,
        n_volumes=len(signals),
        task=task,
        settings=settings,
        start=start,
    )
    contrasts, lacking = contrasts_of_run(settings, task, events, duration=params.tr * len(signals))
    rows, faults = fit_regions(
        signals,
        design,
        contrasts=contrasts,
        task=task,
        noise=settings.noise,
        coverage=coverage,
        units={name: settings.unit_of(name) for name in settings.every_contrast},
    )
    for fault in lacking + faults:
        decisions.add(snakemake.rule, fault)
    scripts = single_scripts(
        signals,
        design,
        events,
        tr=params.tr,
        task=task,
        hrf=settings.hrf,
        start=start,
        noise=settings.noise,
        modulators=settings.modulators,
    )
    SCRIPTS.write(out.scripts, scripts)
    write_table(out.design, design)
    write_rows(out.measures, rows, decisions.unit)


run_step(snakemake, work)
