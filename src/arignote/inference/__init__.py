"""Use of a trained run, in one process without MPI: evaluate, infer, export."""
