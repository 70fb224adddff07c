"""The arms compared by REML and by least squares; moderation and pooled effects; controls; reliability."""

from reconfmri.group.tables import answer_rule
from reconfmri.provenance import log_to

with log_to(snakemake.log[0]):
    answer_rule(snakemake)
