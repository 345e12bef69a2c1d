"""The workers of a run and how they reach one another; the only place that knows MPI."""
