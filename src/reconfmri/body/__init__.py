"""Signals of the body that are recorded beside the scans: recordings, artefacts, and scores per script."""
