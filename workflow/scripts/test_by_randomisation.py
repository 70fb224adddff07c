"""The arms compared with other draws of the same allocation, one row per estimand and outcome."""

from reconfmri.group.tables import answer_rule
from reconfmri.provenance import log_to

with log_to(snakemake.log[0]):
    answer_rule(snakemake)
