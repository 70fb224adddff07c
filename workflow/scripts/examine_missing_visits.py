"""Who was not seen, and what the answers would be had the unseen fared otherwise."""

from reconfmri.bids import read_allocation
from reconfmri.config import Group
from reconfmri.group import missing
from reconfmri.intercurrent import read_events
from reconfmri.measures import read_measures
from reconfmri.provenance import log_to
from reconfmri.tables import write_table

with log_to(snakemake.log[0]):
    given, group = snakemake.input, Group.from_params(snakemake.params.settings)
    arms = read_allocation(given.allocation, given.participants, group.participant_columns)
    tables, asked = (read_measures(given.measures), arms), (group, snakemake.params.sessions)
    out = snakemake.output
    write_table(out.seen, missing.visits_seen(*tables, *asked), missing.SEEN_DESCRIPTIONS)
    write_table(out.patterns, missing.patterns(*tables, *asked), missing.PATTERN_DESCRIPTIONS)
    write_table(out.completers, missing.completers(*tables, *asked), missing.COMPLETER_DESCRIPTIONS)
    sessions = snakemake.params.sessions
    events = read_events(given.events, arms, sessions) if given.events else None
    by_reference = missing.reference_based(*tables, *asked, events=events)
    write_table(out.reference, by_reference, missing.REFERENCE_DESCRIPTIONS)
    grid, points = missing.tipping(*tables, *asked)
    write_table(out.grid, grid, missing.GRID_DESCRIPTIONS)
    write_table(out.tipping, points, missing.TIPPING_DESCRIPTIONS)
