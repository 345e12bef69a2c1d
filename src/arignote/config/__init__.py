"""Validated settings: what a run is told, from defaults, models, files and the command line."""
