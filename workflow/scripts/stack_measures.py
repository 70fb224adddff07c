"""The rows of every producer as the one table of measures, once the books balance."""

from itertools import product
from pathlib import Path

from reconfmri.books import Entry, check_books, check_scale
from reconfmri.decisions import is_out, without_decided
from reconfmri.exclusions import Exclusion, read_exclusions
from reconfmri.jobs import job
from reconfmri.measures import DESCRIPTIONS, read_rows, stack
from reconfmri.tables import write_table

with job(snakemake) as log:
    given, params = snakemake.input, snakemake.params
    entries = [
        Entry(Path(path), Exclusion(*unit), outcomes)
        for name, outcomes in params.outcomes.items()
        for path, unit in zip(given[name], params.units[name], strict=True)
    ]
    tables = {Path(path): read_rows(path) for path in [*(entry.path for entry in entries), *given.scales]}
    exclusions = [row for path in [given.index, *given.exclusions] for row in read_exclusions(path)]
    check_books(tables, entries, exclusions)
    decided = [Exclusion(**row) for row in params.decided]
    expected = [unit for unit in product(params.people, params.sessions) if not is_out(decided, *unit)]
    for path, outcomes in zip(map(Path, given.scales), params.scales, strict=True):
        for outcome in outcomes:
            check_scale(path, tables[path], outcome, expected, exclusions)
    measures = stack(without_decided(table, decided, params.regions) for table in tables.values())
    write_table(snakemake.output.measures, measures, DESCRIPTIONS)
    log.info("%d rows from %d tables", len(measures), len(tables))
