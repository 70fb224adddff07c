"""The arms compared by REML and by least squares; negative controls; reliability within an arm."""

from reconfmri.bids import read_allocation
from reconfmri.config import Group
from reconfmri.group import controls, frequentist, reliability
from reconfmri.group.estimands import DESCRIPTIONS
from reconfmri.measures import read_measures
from reconfmri.provenance import log_to
from reconfmri.tables import write_table

with log_to(snakemake.log[0]):
    tables = read_measures(snakemake.input.measures), read_allocation(snakemake.input.allocation)
    asked = Group.from_params(snakemake.params.settings), snakemake.params.sessions
    estimates = frequentist.estimate(*tables, *asked)
    write_table(snakemake.output.estimates, estimates, DESCRIPTIONS)
    ought_to_be_none = controls.estimate(*tables, *asked)
    write_table(snakemake.output.controls, ought_to_be_none, controls.DESCRIPTIONS)
    within_arms = reliability.estimate(*tables, *asked)
    write_table(snakemake.output.reliability, within_arms, reliability.DESCRIPTIONS)
