"""A PyTorch module and its optimizer as a replica.

Parameters, gradients and buffers are moved into one flat vector each and become views of it,
so an exchange copies nothing in or out. The module and the optimizer keep their own objects:
user code goes on as before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from arignote.errors import CheckpointError, UserError
from arignote.frameworks.base import Allocate, GradientListener, Replica
from arignote.frameworks.flat import by_dtype, move_into, vector_for
from arignote.frameworks.flat_gradients import FlatGradients
from arignote.frameworks.sharded import ShardedOptimizer, is_elementwise


class TorchReplica(Replica):
    """A module and its optimizer, flat.

    Args:
        module: the model; parameters without requires_grad are left out of all exchanges.
        optimizer: any torch optimizer over (some of) the module's parameters.
        allocate: where the flat vectors' memory comes from (a route's `allocate`).
        clip_norm: clip the gradient that the optimizer is fed to this 2-norm; 0: off.
        scaler: loss scaling for fp16, if any.

    Raises:
        UserError: nothing to train, or the optimizer updates tensors that are not the module's.
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        allocate: Allocate,
        clip_norm: float = 0.0,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        self.module = module
        self.optimizer = optimizer
        self.scaler = scaler
        self._clip_norm = clip_norm
        everything = list(module.parameters())
        self._trained = [p for p in everything if p.requires_grad]
        self._check()
        buffers = [b for b in module.buffers() if b.is_floating_point() and b.numel()]
        flat = {id(buffer) for buffer in buffers}
        self.counters = tuple(b for b in module.buffers() if id(b) not in flat)
        self.constants = tuple(p for p in everything if not p.requires_grad)
        self.shapes = tuple(tuple(p.shape for p in group) for group in by_dtype(self._trained))
        self.parameters = self._flatten(self._trained, allocate)
        self.buffers = self._flatten(buffers, allocate)
        self._flat_gradients = FlatGradients(self._trained, allocate)
        self.gradients = self._flat_gradients.vectors
        self._shard: ShardedOptimizer | None = None
        self._sum: Callable[[float], float] | None = None

    def _check(self) -> None:
        if not self._trained:
            raise UserError("the module has no parameter with requires_grad: nothing to train")
        for parameter in self._trained:
            if isinstance(parameter, nn.parameter.UninitializedParameter):
                raise UserError(
                    "a layer is lazy and has no weights yet: run one batch through the module first"
                )
            if not parameter.is_floating_point():
                raise UserError(
                    f"a parameter is {parameter.dtype}: expected a real floating-point dtype"
                )
        if isinstance(self.optimizer, torch.optim.LBFGS):
            raise UserError("LBFGS evaluates the loss many times a step: use another optimizer")
        own = {id(p) for p in self.module.parameters()}
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                if id(parameter) not in own:
                    raise UserError(
                        f"the optimizer updates a tensor of shape {tuple(parameter.shape)} that is "
                        "no parameter of the module: build it from module.parameters()"
                    )

    @staticmethod
    def _flatten(tensors: list[Any], allocate: Allocate) -> tuple[torch.Tensor, ...]:
        vectors = []
        for group in by_dtype(tensors):
            vector = vector_for(group, allocate)
            move_into(vector, group)
            vectors.append(vector)
        return tuple(vectors)

    @property
    def learning_rate(self) -> float:
        """Of the optimizer's first parameter group."""
        return float(self.optimizer.param_groups[0]["lr"])

    def zero_grad(self) -> None:
        """Let go of all gradients: the next backward writes them into the flat vector."""
        self._flat_gradients.let_go()

    def collect_gradients(self) -> None:
        """Bring in gradients that were assigned; see `FlatGradients.collect`.

        Raises:
            UserError: a gradient is sparse.
        """
        self._flat_gradients.collect()

    def leave_gradients(self) -> None:
        """See `Replica.leave_gradients`."""
        self._flat_gradients.leave()

    def listen(self, listener: GradientListener) -> None:
        """See `Replica.listen`."""
        self._flat_gradients.listener = listener

    def begin(self, samples: float) -> None:
        """The last backward of a step is about to start, over a batch of `samples`."""
        self._flat_gradients.begin(samples)

    def reason_not_to_shard(self) -> str:
        """See `Replica.reason_not_to_shard`."""
        if self.scaler is not None:
            return "fp16 looks for infinities in the whole gradient"
        optimizer: Any = self.optimizer
        if optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks:
            return "the optimizer has step hooks, which expect to see the whole of it"
        if not is_elementwise(self.optimizer):
            return (
                f"{type(self.optimizer).__name__} is not known to be elementwise (torch's own are, "
                "but for the fused ones, which round a slice's end in another way)"
            )
        return ""

    def shard(
        self,
        slices: Sequence[slice],
        *,
        gather: Callable[[torch.Tensor], object],
        combine: Callable[[Any], list[Any]],
        sum_: Callable[[float], float],
    ) -> None:
        """See `Replica.shard`."""
        self._shard = ShardedOptimizer(
            self.optimizer,
            by_dtype(self._trained),
            self.parameters,
            self.gradients,
            slices,
            gather=gather,
            combine=combine,
        )
        self._sum = sum_

    def collect_parameters(self) -> None:
        """The module's parameters are views of the vector: they are up to date."""

    def publish_parameters(self) -> None:
        """The module's parameters are views of the vector: they are up to date."""

    def update(self) -> None:
        """Unscale, clip, and one step of the optimizer (of its shard, where it is shared out)."""
        if self._shard is not None:
            self._update_shard(self._shard)
            return
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        if self._clip_norm:
            torch.nn.utils.clip_grad_norm_(self._trained, self._clip_norm)
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()

    def _update_shard(self, shard: ShardedOptimizer) -> None:
        if self._clip_norm:
            assert self._sum is not None
            norm = math.sqrt(self._sum(shard.square_norm()))
            # As torch.nn.utils.clip_grad_norm_; in this order a NaN stays one.
            shard.scale_gradients(min(self._clip_norm / (norm + 1e-6), 1.0))
        shard.step()

    def named_tensors(self) -> dict[str, torch.Tensor]:
        """The module's state dict."""
        return {name: tensor.detach() for name, tensor in self.module.state_dict().items()}

    def load_named_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        """Copy into the module's own tensors, which stay views of the vectors."""
        self.module.load_state_dict(tensors)

    def optimizer_state(self) -> dict[str, Any]:
        """The state of the optimizer (collective where it is shared out) and of the scaler."""
        scaler = {} if self.scaler is None else self.scaler.state_dict()
        kind = type(self.optimizer).__name__
        whole = (self._shard or self.optimizer).state_dict()
        return {"optimizer": whole, "kind": kind, "scaler": scaler}

    def load_optimizer_state(self, state: dict[str, Any]) -> None:
        """Take back the buffers of the optimizer; its settings stay what they are now.

        Raises:
            CheckpointError: it is the state of another kind of optimizer, or of other groups.
        """
        before, now = state["optimizer"], self.optimizer.state_dict()
        kind = type(self.optimizer).__name__
        sizes = [[len(group["params"]) for group in s["param_groups"]] for s in (before, now)]
        if state["kind"] != kind or sizes[0] != sizes[1]:
            raise CheckpointError(
                f"the checkpoint's optimizer is {state['kind']} over {sizes[0]} parameters, this "
                f"one {kind} over {sizes[1]}: resume with the optimizer settings of the run"
            )
        if self._shard is not None:
            self._shard.load_state_dict(before)
        else:
            self.optimizer.load_state_dict({**before, "param_groups": now["param_groups"]})
        if self.scaler is not None and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
