"""Figures: one function per figure, each returns a matplotlib Figure; nothing heavy is imported before it."""
