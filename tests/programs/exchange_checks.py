"""What every exchange between CPUs must do over a real MPI (mpi_checks.py)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import replace

import torch

from arignote.comm.base import World
from arignote.config.exchange_options import ROUTE_CODECS, CodecOptions
from arignote.exchange.codecs.fp32 import FP32
from arignote.exchange.exchange import Exchange
from arignote.exchange.open import open_exchange
from arignote.exchange.routes.pair import matching
from arignote.exchange.routes.process_group import Gloo
from arignote.registry import CODECS

SIZES = (1, 4096, 300_007)
"""Nothing to share out, a chunk of asa, and several for each of four workers."""
CPU = torch.device("cpu")
BOUNDS = {"fp16": 0.002, "bf16": 0.02, "int8": 0.02}


def on_hosts(world: World, names: str) -> World:
    """The same workers, as if each were on the host that its letter names."""
    pretended = world.split(0)
    pretended.peers = tuple(replace(p, host=names[p.rank]) for p in pretended.peers)
    return pretended


def same_bits(world: World, vector: torch.Tensor) -> bool:
    digest = hashlib.sha256(vector.numpy().tobytes()).hexdigest()
    return len(set(world.gather(digest, "a comparison"))) == 1


def check_mean(world: World, make: Callable[[], Exchange]) -> None:
    """Weighted and not, in memory of the route and from elsewhere, twice in a row."""
    n = world.size
    total = n * (n + 1) / 2
    weight = n * (world.rank + 1) / total
    for elements in SIZES:
        exchange = make()
        if exchange.codec.name == "powersgd" and elements == 1:
            continue  # It refuses vectors without a matrix to make smaller.
        base = (torch.arange(elements) % 97).float()
        vectors = [exchange.route.allocate(elements, torch.float32, CPU), torch.empty(elements)]
        side = math.isqrt(elements)
        shapes = [torch.Size([side, side]), torch.Size([elements - side**2])]
        exchange.prepare(vectors, [shapes, shapes])
        for vector in vectors * 2:
            vector.copy_(base + world.rank)
            world.meet([], "a check")
            exchange.mean_(vector, weight=weight, what="a check")
            assert same_bits(world, vector)
            error = (vector - base - sum((r + 1) * r for r in range(n)) / total).abs().max()
            if exchange.codec.lossless:
                assert error < 1e-4
            elif exchange.codec.name in BOUNDS:
                assert error <= BOUNDS[exchange.codec.name] * (97 + n) * 2
        exchange.route.close()


def check_pair(world: World) -> None:
    exchange = open_exchange("pair", world)
    holder = list(range(world.size))
    vector = torch.full((300_007,), float(world.rank))
    for number in range(4):
        exchange.mean_(vector, what="a check")
        holder = [holder[partner] for partner in matching(world.size, number)]
        assert torch.equal(vector, torch.full_like(vector, float(holder[world.rank])))


def check_all(world: World) -> int:
    """How many exchanges were checked."""
    layouts = {2: ["ab"], 3: ["aab", "abc"], 4: ["aabb", "aaab", "abab"]}[world.size]
    hosts = [on_hosts(world, names) for names in layouts]
    count = 0
    for route, codecs in ROUTE_CODECS.items():
        if route in ("nccl", "ipc", "pair"):
            continue
        places = [world, *hosts] if route == "hier" else [world]
        for codec in CODECS:
            lossless = codec.name == "fp32"
            # What a codec does is no matter of how many there are: three is enough.
            if codec.name not in codecs or not (lossless or world.size == 3):
                continue
            for place in places if lossless else places[-1:]:
                name = f"{route}:{codec.name}"
                check_mean(place, lambda place=place, name=name: open_exchange(name, place))
                count += 1
    for place in (world, hosts[-1]):
        check_mean(place, lambda place=place: Exchange(Gloo(place), FP32(CodecOptions())))
        count += 1
    check_pair(world)
    return count
