"""The arms compared by the Bayesian model, one row per estimand and outcome, and how the fits went."""

from reconfmri.bids import read_allocation
from reconfmri.config import Group
from reconfmri.group import bayes, joint, predictive, sensitivity
from reconfmri.group.estimands import DESCRIPTIONS
from reconfmri.measures import read_measures
from reconfmri.provenance import log_to
from reconfmri.tables import write_table

with log_to(snakemake.log[0]):
    given, group = snakemake.input, Group.from_params(snakemake.params.settings)
    arms = read_allocation(given.allocation, given.participants, group.participant_columns)
    tables, asked = (read_measures(given.measures), arms), (group, snakemake.params.sessions)
    sampling = {"seed": snakemake.params.seed, "cores": snakemake.threads}
    found = bayes.estimate(*tables, *asked, **sampling)
    write_table(snakemake.output.estimates, found.estimates, DESCRIPTIONS)
    write_table(snakemake.output.diagnostics, found.diagnostics, bayes.DIAGNOSTICS)
    write_table(snakemake.output.predictions, found.predictions, predictive.DESCRIPTIONS)
    primary = sensitivity.estimate(*tables, *asked, **sampling)
    write_table(snakemake.output.sensitivity, primary, sensitivity.DESCRIPTIONS)
    together = joint.estimate(*tables, *asked, **sampling)
    write_table(snakemake.output.joint, together, joint.DESCRIPTIONS)
