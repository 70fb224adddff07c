"""The arms compared by the Bayesian model: estimates, diagnostics, predictions, other choices, pairs."""

from reconfmri.group.tables import answer_rule
from reconfmri.provenance import log_to

with log_to(snakemake.log[0]):
    answer_rule(snakemake)
