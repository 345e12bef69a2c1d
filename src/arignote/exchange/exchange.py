"""An exchange: a route and a codec, and what they remember of every vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from arignote import accelerator
from arignote.comm.base import World
from arignote.config.exchange_options import CodecOptions
from arignote.exchange.base import Codec, Route, State
from arignote.exchange.codecs.fp32 import FP32
from arignote.exchange.routes.asa import ASA
from arignote.exchange.staging import Staging

Shapes = Sequence[Sequence[torch.Size]]
_REHEARSED_ELEMENTS = 4096


def share_of(samples: float, total: float, squares: float, workers: int) -> float | None:
    """A worker's weight in a mean: its samples / the mean number; None: all brought the same.

    Args:
        total, squares: the sums of all workers' samples and of their squares.
    """
    return None if squares * workers == total**2 else samples * workers / total


class Exchange:
    """Averages flat vectors in place over the workers of a world."""

    def __init__(self, route: Route, codec: Codec) -> None:
        self.route = route
        self.codec = codec
        self.report: dict[str, Any] = {}
        """What `prepare` found out, for the events of the run."""
        self._prepared: list[torch.Tensor] = []
        self._states: dict[str, State] = {}
        self._staging: dict[torch.device, Staging] = {}

    @property
    def name(self) -> str:
        """As users write it: `route:codec[,option=value]`."""
        return f"{self.route.name}:{self.codec_name}"

    @property
    def codec_name(self) -> str:
        """Of it the codec, with its options."""
        return f"{self.codec.name}{self.codec.options.text()}"

    def prepare(
        self,
        vectors: Sequence[torch.Tensor],
        shapes: Shapes,
        *,
        shards: bool = False,
        rounds: bool = True,
    ) -> None:
        """Collective, once, before the first round: these vectors (or parts of them) will come.

        Args:
            shapes: of the tensors that lie in each vector, one after the other.
            shards: whether `reduce_scatter_` is what the rule would like to use.
            rounds: whether they come in every round, so that it pays to look for the fastest way.

        Raises:
            UserError: the codec's options do not fit them.
        """
        for vector in vectors:
            self.codec.check(vector.numel())
            if vector.numel() and self.route.world.size > 1 and not self.codec.lossless:
                elements = min(vector.numel(), _REHEARSED_ELEMENTS)
                self.codec.rehearse(elements, self.route.world.size)
        self._prepared = list(vectors)
        on_device = [vector for vector in vectors if accelerator.is_one(vector.device)]
        if on_device and self.route.world.size > 1:
            # Which way a GPU's gradients take is the first question when they are slow.
            straight = on_device[0].device.type in self.route.devices
            how = "where they are" if straight else "by way of pinned host memory"
            self.report["memory"] = (
                f"{self.name} takes the vectors of devices {how}: {self.route.device_reason}"
            )

    def mean_(self, vector: torch.Tensor, *, weight: float | None = None, what: str) -> int:
        """Replace `vector` by the mean over workers of weight * vector.

        All have met just before, where the route needs that.

        Args:
            weight: this worker's samples / the mean number of samples over the workers;
                None (on all of them): all have the same.
            what: names the occasion for an error.

        Returns:
            The bytes that this worker put on the wire.
        """
        if self.route.world.size == 1 or not vector.numel():
            return 0
        if weight is not None:
            vector.mul_(weight)
            if self.route.needs_meeting:
                # Others may read this vector in place: not before it is weighed.
                self.route.world.meet([], what)
        wide = vector.dtype in (torch.float32, torch.float64)
        kept = wide and (self.codec.lossless or vector.dtype == torch.float32)
        dtype = vector.dtype if kept else torch.float32
        if vector.device.type not in self.route.devices:
            return self._by_host(vector, dtype, what)
        if kept:
            return self._by_route(vector, self._key(vector), what)
        carried = vector.to(dtype)
        wire_bytes = self._by_route(carried, self._key(vector), what)
        vector.copy_(carried)
        return wire_bytes

    def _by_host(self, vector: torch.Tensor, dtype: torch.dtype, what: str) -> int:
        """By way of host memory, as `dtype`."""
        if vector.device not in self._staging:
            self._staging[vector.device] = Staging(vector.device)

        def exchange(chunk: torch.Tensor, part: slice) -> int:
            if cuts and self.route.needs_meeting:
                # A chunk is here when its copy is, on all of them: they have met before that.
                self.route.world.meet([], what)
            return self._by_route(chunk, self._key(vector[part]), what)

        cuts = self.codec.lossless and self.route.cuts
        return self._staging[vector.device].through(vector, dtype, exchange, cuts=cuts)

    def _by_route(self, carried: torch.Tensor, key: str, what: str) -> int:
        """`carried` is the vector `key`, or a copy of it, as the route and the codec take it."""
        if key not in self._states:
            self._states[key] = self.route.new_state(carried.numel(), self.codec)
        state = self._states[key]
        wire_bytes = self.route.mean_(carried, self.codec, state, what)
        state.rounds += 1
        return wire_bytes

    def _key(self, vector: torch.Tensor) -> str:
        """Which vector this is: `number.start.stop` of a prepared one."""
        for number, whole in enumerate(self._prepared):
            start = (vector.data_ptr() - whole.data_ptr()) // whole.element_size()
            if vector.dtype == whole.dtype and 0 <= start < whole.numel():
                return f"{number}.{start}.{start + vector.numel()}"
        return f"other.{vector.dtype}.{vector.numel()}"

    def reduce_scatter_(self, vector: torch.Tensor, *, weight: float | None, what: str) -> int:
        """As `mean_`, but only this worker's slice of `vector` becomes the mean."""
        if weight is not None:
            vector.mul_(weight)
            if self.route.needs_meeting:
                self.route.world.meet([], what)
        return self.route.reduce_scatter_(vector, what)

    def reason_not_to_shard(self, vectors: Sequence[torch.Tensor]) -> str:
        """Why `reduce_scatter_` cannot serve these vectors; empty: it can."""
        if not self.route.shards:
            return f"{self.route.name} does not add up slice by slice"
        if not self.codec.lossless:
            return f"{self.codec.name} is for gradients, and weights would travel too"
        for vector in vectors:
            if vector.dtype not in (torch.float32, torch.float64):
                return f"the model is in {vector.dtype}"
            if vector.device.type not in self.route.devices:
                return f"{self.route.name} reaches no memory of {vector.device.type}"
        return ""

    def lossless(self) -> Exchange:
        """One that gives all the mean, with nothing lost: for what no feedback makes up for."""
        if self.codec.lossless and self.route.averages:
            return self
        route = self.route if self.route.averages else ASA(self.route.world)
        return Exchange(route, FP32(CodecOptions()))

    def close(self) -> None:
        """Let go of what the route holds; collective, after the last round."""
        self.route.close()

    def twin(self, world: World) -> Exchange:
        """The same for another thread, over `world` (of the same workers); shares the state."""
        other = type(self)(self.route.twin(world), self.codec)
        other._prepared, other._states = self._prepared, self._states
        return other

    def state_dict(self) -> dict[str, Any]:
        """What the codec has kept, by vector; nothing where nothing is lost."""
        if self.codec.lossless and self.route.averages:
            return {}
        return {key: vars(state).copy() for key, state in self._states.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state`, of the same worker of as many."""
        # In place: a twin shares it.
        self._states.clear()
        self._states.update({key: State(**fields) for key, fields in state.items()})

    def merge_state_dicts(self, states: Sequence[dict[str, Any]]) -> None:
        """Go on from the states of workers that were more or fewer than now.

        What all of them together had still to bring into the mean is shared out: each worker
        of now takes it as its own, so that the mean of all is that same vector.
        """
        for key in states[0]:
            old = [State(**state[key]) for state in states]
            rows = max(state.worker.shape[0] for state in old)
            if key.startswith("other") or not rows:
                continue
            elements = int(key.rpartition(".")[2]) - int(key.split(".")[1])
            pending = torch.zeros(rows, elements)
            for state in old:
                stop = state.worker_start + state.worker.shape[-1]
                pending[: len(state.worker), state.worker_start : stop] += (
                    state.worker / state.encoders
                )
                stop = state.owner_start + state.owner.shape[-1]
                pending[: state.owner.shape[0], state.owner_start : stop] += state.owner
            new = self.route.new_state(elements, self.codec)
            start = new.worker_start
            new.worker.copy_(pending[:, start : start + new.worker.shape[1]])
            new.rounds = old[0].rounds
            self._states[key] = new
