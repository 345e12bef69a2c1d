"""MPI's Allreduce as one calls it from mpi4py, with nothing of ours around it: a bench's peer."""

from __future__ import annotations

import numpy as np
import torch


class RawMean:
    """The mean over all workers of `vector` (1-D, contiguous, CPU, float32), in place.

    No deadline, no meeting: everything that can be prepared is.
    """

    def __init__(self, vector: torch.Tensor) -> None:
        from mpi4py import MPI

        # Nobody else uses this communicator: a world has its own.
        world = MPI.COMM_WORLD
        self._allreduce = world.Allreduce
        self._in_place = MPI.IN_PLACE
        self._array = vector.numpy()
        self._buffer = [self._array, MPI.FLOAT]
        self._scale = np.float32(1 / world.Get_size())

    def __call__(self) -> None:
        """One allreduce and one multiplication."""
        self._allreduce(self._in_place, self._buffer)
        np.multiply(self._array, self._scale, out=self._array)
