"""Figures: one function per figure. Those of a scan (`scans`) are light; the report's use matplotlib."""

from reconfmri.figures.scans import carpet, mask_outlines, one_above_the_other, registration_edges

__all__ = ["carpet", "mask_outlines", "one_above_the_other", "registration_edges"]
