"""auto: the lossless ways that these workers have, timed on the real vector; the fastest stays.

All candidates of one placement sum in the same order, so luck with the clock never changes a
bit: MPI's own allreduce, whose order is its secret, only takes part between two workers.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median

import torch

from arignote.comm.base import World
from arignote.config.exchange_options import CodecOptions
from arignote.errors import UserError
from arignote.exchange.base import Route
from arignote.exchange.codecs.fp32 import FP32
from arignote.exchange.exchange import Exchange, Shapes
from arignote.registry import ROUTES

_SECONDS = 1.0
_MOST_ROUNDS = 50


def candidates(world: World, device: torch.device) -> list[str]:
    """The routes worth timing; the first one's memory suits all of them."""
    hosts = [peer.host for peer in world.peers]
    if device.type != "cpu":
        # In this order, and the first that serves is taken: their sums may differ in the last bit.
        return ["nccl", "ipc", "allreduce", "asa"]
    if len(set(hosts)) == 1:
        names = ["shm", "asa"]
    elif len(set(hosts)) < len(hosts):
        # Between hosts that have several workers, hier sends the least whatever the clock says.
        return ["hier"]
    else:
        names = ["asa"]
    return [*names, "allreduce"] if world.size == 2 else names


class AutoExchange(Exchange):
    """An exchange that finds its route in `prepare`."""

    def __init__(self, world: World, device: torch.device) -> None:
        self._routes: list[Route] = []
        self.refused: dict[str, str] = {}
        """Why a route does not take part."""
        for name in candidates(world, device):
            try:
                route = ROUTES.load(name)(world)
                # Some find out only now (workers in containers of their own, two on a GPU).
                route.allocate(1, torch.float32, device)
                if name == "allreduce" and device.type not in route.devices:
                    raise UserError(route.device_reason)
                self._routes.append(route)
            except UserError as error:
                self.refused[name] = str(error)
            if device.type != "cpu" and self._routes:
                break
        if not self._routes:
            # It asks nothing of the hosts.
            self._routes.append(ROUTES.load("asa")(world))
        super().__init__(self._routes[0], FP32(CodecOptions()))

    def prepare(
        self,
        vectors: Sequence[torch.Tensor],
        shapes: Shapes,
        *,
        shards: bool = False,
        rounds: bool = True,
    ) -> None:
        """As `Exchange.prepare`; times the candidates on the longest vector that is for rounds."""
        super().prepare(vectors, shapes, shards=shards, rounds=rounds)
        if shards and any(route.shards for route in self._routes):
            # Or luck with the clock would decide whether the update is shared out.
            self._routes = [route for route in self._routes if route.shards]
        world = self.route.world
        longest = max(vectors, key=torch.Tensor.numel, default=torch.zeros(0))
        if world.size == 1 or not longest.numel() or not rounds:
            return
        seconds = self._times(longest, world)
        fastest = min(seconds, key=lambda name: seconds[name])
        self.route = next(route for route in self._routes if route.name == fastest)
        self.report |= {
            "chosen": self.name,
            "elements": longest.numel(),
            "median_seconds": seconds,
            "refused": self.refused,
        }

    def twin(self, world: World) -> Exchange:
        """As `Exchange.twin`, of what was chosen."""
        chosen = Exchange(self.route, self.codec)
        chosen._prepared, chosen._states = self._prepared, self._states
        return chosen.twin(world)

    def _times(self, vector: torch.Tensor, world: World) -> dict[str, float]:
        """Median seconds by route, the mean over the workers: the same on all of them."""
        kept = vector.clone()
        ways = {route.name: Exchange(route, self.codec) for route in self._routes}
        times: dict[str, list[float]] = {name: [] for name in ways}

        def one_round() -> float:
            begun = time.perf_counter()
            for name, way in ways.items():
                world.meet([], "the timing of the exchanges")
                start = time.perf_counter()
                way.mean_(vector, what="the timing of the exchanges")
                times[name].append(time.perf_counter() - start)
            return time.perf_counter() - begun

        one_round()
        for measured in times.values():
            measured.clear()
        (total,) = world.meet([one_round()], "the timing of the exchanges")
        rounds = int(_SECONDS * world.size / max(total, 1e-6))
        for _ in range(min(rounds, _MOST_ROUNDS) - 1):
            one_round()
        vector.copy_(kept)
        means = world.meet([median(t) for t in times.values()], "the timing of the exchanges")
        return dict(zip(times, (means / world.size).tolist(), strict=True))
