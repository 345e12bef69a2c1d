"""Data sets, and the pure functions that share them out among the workers."""
