"""The arms compared by the Bayesian model: estimates, diagnostics, predictions, other choices, pairs."""

from reconfmri.group.tables import answer_rule
from reconfmri.jobs import job

with job(snakemake):
    answer_rule(snakemake)
