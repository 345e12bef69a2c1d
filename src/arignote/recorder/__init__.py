"""What happened in a run: seconds by phase, events, progress, plots. Knows no torch."""
