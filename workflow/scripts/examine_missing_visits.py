"""Who was not seen, and what the answers would be had the unseen fared otherwise."""

from reconfmri.group.tables import answer_rule
from reconfmri.provenance import log_to

with log_to(snakemake.log[0]):
    answer_rule(snakemake)
