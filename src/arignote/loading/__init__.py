"""Loader processes: the next batches are made while the current one trains."""
