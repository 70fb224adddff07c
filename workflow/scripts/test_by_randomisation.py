"""The arms compared with other draws of the same allocation, one row per estimand and outcome."""

from reconfmri.group.tables import answer_rule
from reconfmri.jobs import job

with job(snakemake):
    answer_rule(snakemake)
