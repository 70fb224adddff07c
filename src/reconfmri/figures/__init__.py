"""Figures: one function per figure. Pictures of a scan (`scans`) are light; the report's (`trial`) use matplotlib."""

from reconfmri.figures.scans import carpet, mask_outlines, one_above_the_other, registration_edges

__all__ = ["carpet", "mask_outlines", "one_above_the_other", "registration_edges"]
