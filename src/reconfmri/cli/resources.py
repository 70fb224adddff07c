"""`reconfmri resources`: memory and time of every rule in finished runs, as what later runs ask for."""

from __future__ import annotations

from argparse import Namespace
from collections import defaultdict
from collections.abc import Iterable

import pandas as pd

from reconfmri.cli.screen import show_table
from reconfmri.contracts.rules import RULES
from reconfmri.jobs import Record, read_records
from reconfmri.needs import TABLE, suggested
from reconfmri.tables import write_table

COLUMNS = {
    "rule": "Rule of the workflow",
    "jobs": "Finished jobs that were measured",
    "peak_mb": "Largest peak of memory of a job, MB: its Python and the largest program that it started",
    "wall_min": "Longest job, min",
    "cpu_min": "Processor time of all its jobs, min",
    "mem_mb": "Memory that later runs ask for, MB: a third above the largest peak; a retry gets more",
    "runtime": "Time that later runs ask for, min: twice the longest job and 5 min; a retry gets more",
}


def write_resources(options: Namespace) -> int:
    """Write config/resources.tsv of a study from the records of its jobs, and of other studies."""
    folders = [options.study, *options.others]
    records = [record for folder in folders for record in read_records(folder).values()]
    table = measured(records)
    if table.empty:
        print("no finished job left a record here. Fix: run the study first, or name a finished one")
        return 1
    place = options.study / TABLE
    write_table(place, table, descriptions=COLUMNS)
    show_table(list(table.columns), [[str(value) for value in row] for row in table.itertuples(index=False)])
    print(f"wrote {place}: the next run asks for this; delete it to go back to the workflow's own numbers")
    return 0


def measured(records: Iterable[Record]) -> pd.DataFrame:
    """Return one row per rule with finished jobs, in the order of the workflow."""
    of_rule = defaultdict(list)
    for record in records:
        if record.state == "done" and record.rule in RULES:
            of_rule[record.rule].append(record)
    rows = []
    for rule in (name for name in RULES if name in of_rule):
        jobs = of_rule[rule]
        peak, wall = max(job.peak_mb for job in jobs), max(job.wall_s for job in jobs)
        mem_mb, runtime = suggested(peak, wall)
        cpu = round(sum(job.cpu_s for job in jobs) / 60, 2)
        rows.append([rule, len(jobs), peak, round(wall / 60, 2), cpu, mem_mb, runtime])
    return pd.DataFrame(rows, columns=list(COLUMNS))
