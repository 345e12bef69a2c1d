"""Every route x codec averages right: closed forms, odd sizes, several workers, twice in a row."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from arignote.comm.threads import run_threads, thread_worlds
from arignote.exchange.open import open_exchange
from arignote.registry import CODECS, ROUTES

NAMES = [f"{route.name}:{codec.name}" for route in ROUTES for codec in CODECS]
SIZES = (0, 1, 7, 4096, 1_000_003)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("workers", [1, 2, 3, 4, 5])
def test_weighted_mean(name: str, workers: int) -> None:
    # Worker r brings r+1 samples and the vector base + r.
    total = workers * (workers + 1) / 2
    shift = sum((r + 1) * r for r in range(workers)) / total

    def work(world: Any) -> None:
        exchange = open_exchange(name, world)
        assert exchange.name == name
        for elements in SIZES:
            base = (torch.arange(elements) % 97).float()
            for _ in range(2):
                vector = base + world.rank
                sent = exchange.mean_(vector, share=(world.rank + 1) / total, what="a test")
                if exchange.codec.lossless:
                    assert torch.allclose(vector, base + shift, rtol=1e-6, atol=1e-5)
                # A lossy codec has its error bound in a test of its own.
                assert vector.shape == base.shape
                assert (sent == 0) == (workers == 1 or elements == 0)

    run_threads(thread_worlds(workers), work)


@pytest.mark.parametrize("name", NAMES)
def test_all_workers_end_with_the_same_bits(name: str) -> None:
    def work(world: Any) -> torch.Tensor:
        vector = torch.randn(1001, generator=torch.Generator().manual_seed(world.rank))
        open_exchange(name, world).mean_(vector, share=1 / 3, what="a test")
        return vector

    first, *others = run_threads(thread_worlds(3), work)
    assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_dtypes(name: str, dtype: torch.dtype) -> None:
    def work(world: Any) -> torch.Tensor:
        vector = torch.full((9,), 1.5 + world.rank, dtype=dtype)
        open_exchange(name, world).mean_(vector, share=0.5, what="a test")
        return vector

    for vector in run_threads(thread_worlds(2), work):
        assert vector.dtype == dtype
        assert vector.tolist() == [2.0] * 9


@pytest.mark.parametrize("name", NAMES)
def test_nan_and_inf_pass_through(name: str) -> None:
    def work(world: Any) -> torch.Tensor:
        vector = torch.ones(4)
        if world.rank == 1:
            vector[1], vector[2] = float("nan"), float("inf")
        open_exchange(name, world).mean_(vector, share=0.5, what="a test")
        return vector

    for vector in run_threads(thread_worlds(2), work):
        assert torch.isnan(vector[1])
        assert not torch.isfinite(vector[2])
        assert vector[0] == vector[3] == 1


def test_lossless_codec_gives_back_the_bits() -> None:
    for entry in CODECS:
        codec = CODECS.load(entry.name)()
        if codec.lossless:
            vector = torch.randn(1001)
            kept = vector.clone()
            codec.decode_(codec.encode(vector), vector)
            assert torch.equal(vector, kept)
