"""Who was not seen, and what the answers would be had the unseen fared otherwise."""

from reconfmri.group.tables import answer_rule
from reconfmri.jobs import job

with job(snakemake):
    answer_rule(snakemake)
