"""Any list of arrays as a replica: for models that update themselves (Theano-MPI's contract).

The arrays stay the model's own, so they are copied into the flat vector and back. NumPy
arrays and torch tensors are understood; gradients are not shown, so a rule must average
weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from arignote.errors import UserError
from arignote.frameworks.base import Allocate, Replica
from arignote.frameworks.flat import by_dtype, vector_for, views


class ArrayReplica(Replica):
    """A model's `params`, flat.

    Args:
        owner: the model, of whose other state its `state_dict` and `load_state_dict` take care,
            where it has them.

    Raises:
        UserError: `params` is empty, or holds something that is no writable array.
    """

    gradients = ()
    buffers = ()
    counters = ()
    constants = ()

    def __init__(self, params: Sequence[Any], *, allocate: Allocate, owner: object = None) -> None:
        self._owner = owner
        if not params:
            raise UserError("the model's params are empty: nothing to exchange")
        tensors = [self._as_tensor(array, index) for index, array in enumerate(params)]
        groups = by_dtype(tensors)
        self._tensors = tensors
        self.parameters = tuple(vector_for(group, allocate) for group in groups)
        self.shapes = tuple(tuple(tensor.shape for tensor in group) for group in groups)
        self._pairs = [
            pair
            for vector, group in zip(self.parameters, groups, strict=True)
            for pair in zip(views(vector, group), group, strict=True)
        ]
        self.collect_parameters()

    @staticmethod
    def _as_tensor(array: Any, index: int) -> torch.Tensor:
        if isinstance(array, torch.Tensor):
            return array.detach()
        if isinstance(array, np.ndarray) and array.flags.writeable:
            return torch.from_numpy(array)
        raise UserError(
            f"params[{index}] is a {type(array).__name__}: expected a writable NumPy array or a "
            "torch tensor"
        )

    def collect_gradients(self) -> None:
        """There are none to collect."""

    def collect_parameters(self) -> None:
        """Copy the model's arrays into the vector."""
        for view, tensor in self._pairs:
            view.copy_(tensor)

    def publish_parameters(self) -> None:
        """Copy the vector into the model's arrays."""
        for view, tensor in self._pairs:
            tensor.copy_(view)

    def update(self) -> None:
        """The model has updated itself in `train_iter`."""

    def named_tensors(self) -> dict[str, torch.Tensor]:
        """The arrays, by their place in the list."""
        return {f"params.{index}": tensor for index, tensor in enumerate(self._tensors)}

    def load_named_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        """Copy into the model's arrays."""
        for index, tensor in enumerate(self._tensors):
            tensor.copy_(tensors[f"params.{index}"])
        self.collect_parameters()

    def optimizer_state(self) -> dict[str, Any]:
        """What the model says of itself, if it does."""
        tell = getattr(self._owner, "state_dict", None)
        return {} if tell is None else {"model": tell()}

    def load_optimizer_state(self, state: dict[str, Any]) -> None:
        """Tell the model."""
        take = getattr(self._owner, "load_state_dict", None)
        if take is not None and "model" in state:
            take(state["model"])
