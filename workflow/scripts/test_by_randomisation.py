"""The arms compared with other draws of the same allocation, one row per estimand and outcome."""

from reconfmri.bids import read_allocation
from reconfmri.config import Group
from reconfmri.group import randomisation
from reconfmri.group.estimands import DESCRIPTIONS
from reconfmri.measures import read_measures
from reconfmri.provenance import log_to
from reconfmri.tables import write_table

with log_to(snakemake.log[0]):
    given, group = snakemake.input, Group.from_params(snakemake.params.settings)
    arms = read_allocation(given.allocation, given.participants, group.participant_columns)
    tables, asked = (read_measures(given.measures), arms), (group, snakemake.params.sessions)
    seed = snakemake.params.seed
    estimates = randomisation.estimate(*tables, *asked, seed=seed)
    write_table(snakemake.output.estimates, estimates, DESCRIPTIONS)
    draws = randomisation.headline_statistics(*tables, *asked, seed=seed)
    write_table(snakemake.output.draws, draws, randomisation.DRAWS)
