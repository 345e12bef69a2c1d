"""The gradients of a module in flat vectors, from the moment that backward has computed each.

What backward does with a gradient tensor that is already there costs two passes over it: zero
it before, add to it after. So there is none while backward starts; autograd hands over what it
has just computed, still in the cache, and a hook copies it to its place in the vector.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from arignote.errors import UserError
from arignote.frameworks.base import Allocate, GradientListener
from arignote.frameworks.flat import by_dtype, vector_for, views


@dataclass(frozen=True)
class _Place:
    """Where the gradient of a parameter belongs."""

    parameter: nn.Parameter
    view: torch.Tensor
    vector: int
    start: int


class FlatGradients:
    """Flat gradient vectors of `parameters`, one a dtype; each `.grad` becomes a view."""

    def __init__(self, parameters: Sequence[nn.Parameter], allocate: Allocate) -> None:
        self.listener: GradientListener | None = None
        self._begun = False
        self._places: dict[int, _Place] = {}
        vectors = []
        for number, group in enumerate(by_dtype(parameters)):
            vector, start = vector_for(group, allocate), 0
            for parameter, view in zip(group, views(vector, group), strict=True):
                assert isinstance(parameter, nn.Parameter)
                parameter.grad = view
                self._places[id(parameter)] = _Place(parameter, view, number, start)
                start += parameter.numel()
            vectors.append(vector)
        self.vectors = tuple(vectors)
        # A hook that held this object would be a circle through torch that no collector sees.
        this = weakref.ref(self)

        def arrived(parameter: torch.Tensor) -> None:
            owner = this()
            if owner is not None:
                owner._arrived(parameter)

        self._hooks = [
            parameter.register_post_accumulate_grad_hook(arrived)  # type: ignore[no-untyped-call]
            for parameter in parameters
        ]

    def begin(self, samples: float) -> None:
        """The last backward of this step is about to start."""
        if self.listener is not None:
            self.listener.begin(samples)
            self._begun = True

    def leave(self) -> None:
        """Nobody will read the vectors: each gradient may stay where backward computed it."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def let_go(self) -> None:
        """No parameter has a gradient: the next backward writes, and adds to nothing."""
        for place in self._places.values():
            place.parameter.grad = None

    def collect(self) -> None:
        """Bring in what no hook has seen: a gradient that was assigned, or none at all.

        A parameter that this worker's loss did not use counts as a gradient of zero.

        Raises:
            UserError: a gradient is sparse.
        """
        self._begun = False
        for place in self._places.values():
            if place.parameter.grad is None:
                place.view.zero_()
                place.parameter.grad = place.view
            elif self._hooks:
                _bring(place.parameter, place.view)
            else:
                _check_dense(place.parameter.grad)

    def _arrived(self, parameter: torch.Tensor) -> None:
        place = self._places[id(parameter)]
        _bring(parameter, place.view)
        if self._begun and self.listener is not None:
            self.listener.ready(place.vector, place.start)


def _bring(parameter: torch.Tensor, view: torch.Tensor) -> None:
    """Copy the parameter's gradient into its view, if it is elsewhere."""
    gradient = parameter.grad
    if gradient is view or gradient is None:
        return
    _check_dense(gradient)
    plain = gradient.device.type == "cpu" and gradient.dtype in (torch.float32, torch.float64)
    if plain and gradient.dtype == view.dtype and gradient.is_contiguous():
        # NumPy's copy does not read what it overwrites, torch's does.
        np.copyto(view.detach().numpy(), gradient.detach().numpy())
    else:
        view.copy_(gradient.detach())
    parameter.grad = view


def _check_dense(gradient: torch.Tensor) -> None:
    if gradient.is_sparse:
        raise UserError(
            f"a gradient of shape {tuple(gradient.shape)} is sparse: build its layer with "
            "sparse=False"
        )
