"""The arms compared by REML and by least squares; moderation and pooled effects; controls; reliability."""

from reconfmri.group.tables import answer_rule
from reconfmri.jobs import job

with job(snakemake):
    answer_rule(snakemake)
