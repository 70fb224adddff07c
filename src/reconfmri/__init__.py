"""From the BIDS data of a drug trial on memory to arm contrasts and a report."""

__version__ = "0.1.0"
