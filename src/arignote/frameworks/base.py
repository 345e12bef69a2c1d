"""The contract of a replica: one worker's copy of the model, as flat vectors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeAlias

import torch

Allocate: TypeAlias = Callable[[int, torch.dtype, torch.device], torch.Tensor]
"""(elements, dtype, device) -> a zeroed vector; a route's `allocate`."""


class Replica(ABC):
    """What a rule sees of a model.

    Vectors come as tuples because a model may hold several dtypes; almost always there is
    one of each kind.
    """

    parameters: tuple[torch.Tensor, ...]
    """All trained parameters, one flat vector a dtype."""
    gradients: tuple[torch.Tensor, ...]
    """Their gradients, laid out likewise; empty where the framework does not show them."""
    buffers: tuple[torch.Tensor, ...]
    """Floating-point state that is no parameter (batch-norm statistics)."""
    counters: tuple[torch.Tensor, ...]
    """Other state of that kind (integers: how many batches a layer has seen); never averaged."""
    constants: tuple[torch.Tensor, ...]
    """What never changes by training but must be equal at the start."""

    @abstractmethod
    def collect_gradients(self) -> None:
        """Bring `gradients` up to date with the model."""

    @abstractmethod
    def collect_parameters(self) -> None:
        """Bring `parameters` up to date with the model."""

    @abstractmethod
    def publish_parameters(self) -> None:
        """Bring the model up to date with `parameters`."""

    @abstractmethod
    def update(self) -> None:
        """One optimizer update of this worker from `gradients`."""

    @abstractmethod
    def named_tensors(self) -> dict[str, torch.Tensor]:
        """Weights and buffers by name, as they are saved."""

    @abstractmethod
    def load_named_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take back what `named_tensors` gave, into the same memory."""

    @abstractmethod
    def optimizer_state(self) -> dict[str, Any]:
        """The optimizer's state: a nested structure of tensors and plain values."""

    @abstractmethod
    def load_optimizer_state(self, state: dict[str, Any]) -> None:
        """Take back what `optimizer_state` gave."""
