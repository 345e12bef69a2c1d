"""From hosts and devices to running processes; knows neither torch nor MPI."""
