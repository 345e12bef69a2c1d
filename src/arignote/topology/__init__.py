"""What a machine tells of its cores, memory nodes and GPUs, without torch and without MPI."""
