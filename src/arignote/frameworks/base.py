"""The contract of a replica: one worker's copy of the model, as flat vectors."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import torch

Allocate: TypeAlias = Callable[[int, torch.dtype, torch.device], torch.Tensor]
"""(elements, dtype, device) -> a zeroed vector; a route's `allocate`."""


class GradientListener(Protocol):
    """Who wants to know of gradients while backward goes on."""

    def begin(self, samples: float) -> None:
        """The last backward of a step, over a batch of `samples`, is about to start."""

    def ready(self, vector: int, start: int) -> None:
        """The parameter that lies at `start` of that vector has its gradient."""


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

    @property
    def learning_rate(self) -> float:
        """Of the next update; NaN where it is the model's secret."""
        return math.nan

    shapes: tuple[tuple[torch.Size, ...], ...]
    """Of the tensors in each of `parameters` (and `gradients`), one after the other."""

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

    def leave_gradients(self) -> None:
        """Nobody will read `gradients`: they need not be brought up to date, `update` uses others.

        Saves a copy of them in each step.
        """
        return

    def listen(self, listener: GradientListener) -> None:
        """Tell `listener` of gradients as they arrive.

        A framework that cannot tells nothing: then all of them arrive in `collect_gradients`.
        """
        return

    def reason_not_to_shard(self) -> str:
        """Why `update` cannot be shared out among the workers; empty: it can."""
        return "the model updates itself"

    def shard(
        self,
        slices: Sequence[slice],
        *,
        gather: Callable[[torch.Tensor], object],
        combine: Callable[[Any], list[Any]],
        sum_: Callable[[float], float],
    ) -> None:
        """From now on `update` changes only these slices of the parameter vectors.

        Args:
            slices: one of each vector.
            gather: bring everybody's slice of a gradient vector to all; collective.
            combine: everybody's item (plain values), by rank; collective.
            sum_: the sum of a number over all workers; collective.
        """
        raise NotImplementedError

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
