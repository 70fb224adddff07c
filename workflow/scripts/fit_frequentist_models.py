"""The arms compared by REML and by least squares; moderation and pooled effects; controls; reliability."""

from reconfmri import exclusions
from reconfmri.bids import read_allocation
from reconfmri.config import Group
from reconfmri.group import controls, frequentist, left_out, moderation, pooled, reliability
from reconfmri.group.estimands import DESCRIPTIONS
from reconfmri.measures import read_measures
from reconfmri.provenance import log_to
from reconfmri.tables import write_table

with log_to(snakemake.log[0]):
    given, group = snakemake.input, Group.from_params(snakemake.params.settings)
    arms = read_allocation(given.allocation, given.participants, group.participant_columns)
    tables, asked = (read_measures(given.measures), arms), (group, snakemake.params.sessions)
    write_table(snakemake.output.left_out, left_out(*tables, group), exclusions.DESCRIPTIONS)
    estimates = frequentist.estimate(*tables, *asked)
    write_table(snakemake.output.estimates, estimates, DESCRIPTIONS)
    ought_to_be_none = controls.estimate(*tables, *asked)
    moderated = moderation.estimate(*tables, *asked)
    write_table(snakemake.output.moderation, moderated, moderation.DESCRIPTIONS)
    write_table(snakemake.output.pooled, pooled.estimate(*tables, *asked), pooled.DESCRIPTIONS)
    write_table(snakemake.output.controls, ought_to_be_none, controls.DESCRIPTIONS)
    within_arms = reliability.estimate(*tables, *asked)
    write_table(snakemake.output.reliability, within_arms, reliability.DESCRIPTIONS)
