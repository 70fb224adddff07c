"""From a BIDS dataset to the run table, with every problem on the way."""

from reconfmri.indexing.index import Progress, in_visit_order, index_dataset, write_index
from reconfmri.indexing.scans import Scan, find_scans

__all__ = [
    "Progress",
    "Scan",
    "find_scans",
    "in_visit_order",
    "index_dataset",
    "write_index",
]
