"""The optimizer's work shared out: each worker updates its slice of the flat vectors.

An elementwise optimizer does the same to every element, so it may as well be given slices of
parameters: torch's own class, with the user's own groups, over this worker's part of each
parameter, in pieces that stay in the cache from one operation to the next. Memory and time of
the optimizer are divided by the number of workers; the bits are those of the whole.

As ZeRO's first stage (arXiv 1910.02054); we differ: the slices are those in which the exchange
sums, and what is saved is the whole state, so that a run resumes with any number of workers.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from arignote.errors import UserError

PIECE = 1 << 16
"""Elements of a piece: the operands of an update fit into a core's own cache."""

ELEMENTWISE = (
    "SGD",
    "Adam",
    "AdamW",
    "RMSprop",
    "Adagrad",
    "Adadelta",
    "Adamax",
    "NAdam",
    "RAdam",
    "ASGD",
    "Rprop",
)
"""Optimizers of torch.optim whose update of an element depends on that element alone."""


def is_elementwise(optimizer: torch.optim.Optimizer) -> bool:
    """Whether it is one of torch's own (a subclass may do anything) of that kind.

    Torch's fused kernels round the last elements of a tensor differently: there a cut shows.
    """
    kind = type(optimizer)
    known = kind.__name__ in ELEMENTWISE and getattr(torch.optim, kind.__name__) is kind
    return known and not any(group.get("fused") for group in optimizer.param_groups)


_SCALARS = ("step", "eta", "mu", "mu_product")
"""State of those optimizers that is one number a parameter."""


@dataclass(frozen=True)
class _Piece:
    """A part of a parameter that this worker updates."""

    tensor: nn.Parameter
    owner: torch.Tensor
    offset: int
    """Where in its owner it begins."""
    vector: int
    """Number of the flat vector."""
    begin: int
    """Where in that vector it begins."""

    @property
    def place(self) -> slice:
        """In the flat vector."""
        return slice(self.begin, self.begin + self.tensor.numel())


class ShardedOptimizer:
    """`optimizer` over this worker's slices of its parameters.

    Args:
        optimizer: the user's; its groups stay the place where learning rates are set.
        parameters: by flat vector, those that lie in it, one after the other.
        vectors, gradients: the flat vectors.
        slices: of each vector, what this worker updates.
        gather: bring everybody's slice of a gradient vector to all; collective.
        combine: everybody's item (plain values), by rank; collective.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        parameters: Sequence[Sequence[torch.Tensor]],
        vectors: Sequence[torch.Tensor],
        gradients: Sequence[torch.Tensor],
        slices: Sequence[slice],
        *,
        gather: Callable[[torch.Tensor], object],
        combine: Callable[[Any], list[Any]],
    ) -> None:
        self.optimizer = optimizer
        self._vectors, self._gradients, self._slices = vectors, gradients, slices
        self._gather, self._combine = gather, combine
        self._places: dict[int, tuple[int, int]] = {}
        for number, members in enumerate(parameters):
            start = 0
            for parameter in members:
                self._places[id(parameter)] = (number, start)
                start += parameter.numel()
        self._groups = [
            [piece for parameter in group["params"] for piece in self._cut(parameter)]
            for group in optimizer.param_groups
        ]
        self._pieces = [piece for group in self._groups for piece in group]
        self._own = self._build() if self._pieces else None
        # What it had before (from a user's checkpoint; Adagrad has some from the beginning).
        self._take_state(optimizer)
        optimizer.register_load_state_dict_post_hook(self._take_state)

    def _take_state(self, optimizer: torch.optim.Optimizer) -> None:
        """This worker's part of the state that the user's optimizer holds, which lets go of it."""
        self.load_state_dict(optimizer.state_dict())
        optimizer.state.clear()

    def _cut(self, parameter: torch.Tensor) -> list[_Piece]:
        """This worker's part of `parameter`, if any, in pieces."""
        if id(parameter) not in self._places:
            return []
        number, start = self._places[id(parameter)]
        own = self._slices[number]
        low, high = max(start, own.start), min(start + parameter.numel(), own.stop)
        pieces = []
        for begin in range(low, high, PIECE):
            end = min(begin + PIECE, high)
            tensor = nn.Parameter(self._vectors[number][begin:end].detach())
            tensor.grad = self._gradients[number][begin:end]
            pieces.append(_Piece(tensor, parameter, begin - start, number, begin))
        return pieces

    def _build(self) -> torch.optim.Optimizer:
        kind = type(self.optimizer)
        known = inspect.signature(kind.__init__).parameters
        defaults = {k: v for k, v in self.optimizer.defaults.items() if k in known}
        groups = [
            {**_hyperparameters(group), "params": [piece.tensor for piece in pieces]}
            for group, pieces in zip(self.optimizer.param_groups, self._groups, strict=True)
        ]
        return kind(groups, **defaults)

    def step(self) -> None:
        """One update of this worker's slices, with the hyper-parameters of this moment."""
        # A schedule of torch's looks for it, to warn those who forget the optimizer.
        self.optimizer._opt_called = True  # type: ignore[attr-defined]
        if len(self.optimizer.param_groups) != len(self._groups):
            raise UserError(
                "the optimizer was given a parameter group after the start: give it all of them "
                "before arignote.attach, or use --rule bsp:sharded=off"
            )
        if self._own is None:
            return
        for own, group in zip(self._own.param_groups, self.optimizer.param_groups, strict=True):
            own.update(_hyperparameters(group))
        self._own.step()

    def scale_gradients(self, factor: float) -> None:
        """Multiply this worker's slices of the gradients (clipping)."""
        for vector, own in zip(self._gradients, self._slices, strict=True):
            vector[own].mul_(factor)

    def square_norm(self) -> float:
        """Of this worker's slices of the gradients, in float64."""
        return math.fsum(
            float(torch.linalg.vector_norm(vector[own], dtype=torch.float64)) ** 2
            for vector, own in zip(self._gradients, self._slices, strict=True)
        )

    def state_dict(self) -> dict[str, Any]:
        """The whole state, as the user's optimizer would have it; collective.

        The gradient vectors carry it: what they held is lost.
        """
        known = self._known()
        flat = {key: self._flat(key) for key in sorted({k for g in known for k in g["vectors"]})}
        state: dict[int, dict[str, Any]] = {}
        parameters = [
            (parameter, facts)
            for group, facts in zip(self.optimizer.param_groups, known, strict=True)
            for parameter in group["params"]
        ]
        for index, (parameter, facts) in enumerate(parameters):
            if id(parameter) not in self._places or not (facts["vectors"] or facts["scalars"]):
                continue
            number, start = self._places[id(parameter)]
            part = slice(start, start + parameter.numel())
            state[index] = {key: _unpacked(value) for key, value in facts["scalars"].items()} | {
                key: flat[key][number][part].view(parameter.shape).clone()
                for key in facts["vectors"]
            }
        return {**self.optimizer.state_dict(), "state": state}

    def _known(self) -> list[dict[str, Any]]:
        """By group, from the first worker with a piece of it: what is a vector, what a number."""
        mine = []
        for pieces in self._groups:
            state = self._own.state.get(pieces[0].tensor, {}) if self._own and pieces else {}
            scalars = {k: _packed(v) for k, v in state.items() if k in _SCALARS}
            vectors = [k for k, v in state.items() if k not in scalars and v is not None]
            mine.append({"vectors": vectors, "scalars": scalars})
        return [
            next((facts for facts in of_all if facts["vectors"] or facts["scalars"]), of_all[0])
            for of_all in zip(*self._combine(mine), strict=True)
        ]

    def _flat(self, key: str) -> list[torch.Tensor]:
        """State `key` of all parameters, in flat vectors."""
        whole = []
        for number, carrier in enumerate(self._gradients):
            carrier.zero_()
            self._combine(None)
            for piece in self._pieces:
                if piece.vector == number and self._own is not None:
                    value = self._own.state.get(piece.tensor, {}).get(key)
                    if value is not None:
                        carrier[piece.place].copy_(value)
            self._gather(carrier)
            whole.append(carrier.clone())
            # Nobody goes on to zero the carrier before all have what is theirs.
            self._combine(None)
        return whole

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take this worker's part of a whole state."""
        if self._own is None:
            return
        owners = [p for group in self.optimizer.param_groups for p in group["params"]]
        whole = {id(owner): state["state"].get(i, {}) for i, owner in enumerate(owners)}
        self._own.state.clear()
        for piece in self._pieces:
            part = slice(piece.offset, piece.offset + piece.tensor.numel())
            own = {
                key: _copied(value) if key in _SCALARS else value.reshape(-1)[part].clone()
                for key, value in whole[id(piece.owner)].items()
            }
            if own:
                self._own.state[piece.tensor] = own


def _hyperparameters(group: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key != "params"}


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, torch.Tensor) else value


def _packed(value: Any) -> list[Any]:
    """A number, or a tensor of one, as plain values."""
    if isinstance(value, torch.Tensor):
        return [float(value), str(value.dtype).removeprefix("torch.")]
    return [value, ""]


def _unpacked(packed: list[Any]) -> Any:
    value, dtype = packed
    return torch.tensor(value, dtype=getattr(torch, dtype)) if dtype else value
