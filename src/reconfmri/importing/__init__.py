"""From the tables of a trial office to BIDS: phenotype/, participants.tsv, and the allocation apart."""
