"""topk alone: which elements are sent, how many, momentum correction, and its messages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from arignote.config.exchange_options import TopKOptions
from arignote.errors import UserError
from arignote.exchange.codecs.topk import TopK, select


def noise(elements: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(elements).astype(np.float32)


def outliers(elements: int) -> Any:
    """All large ones lie between the sample's, or all on them."""
    values = noise(elements) * np.float32(1e-3)
    values[1::2] = noise(elements)[1::2]
    return values


def periodic(elements: int) -> Any:
    values = noise(elements) * np.float32(1e-3)
    values[:: max(1, elements // 4096)] = 1
    return values


KINDS = {
    "normal": noise,
    "heavy tails": lambda n: noise(n) ** 5,
    "few are not zero": lambda n: noise(n) * (np.arange(n) % 1000 == 7),
    "two in a hundred are not zero": lambda n: noise(n) * (np.arange(n) % 50 == 7),
    "all equal": lambda n: np.full(n, -2, np.float32),
    "few values": lambda n: np.round(noise(n)),
    "between the sample": outliers,
    "on the sample": periodic,
    "denormal": lambda n: noise(n) * np.float32(1e-42),
    "zero": lambda n: np.zeros(n, np.float32),
}


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("elements", [1, 7, 5000, 200_003])
def test_the_largest_are_selected(kind: str, elements: int) -> None:
    values = KINDS[kind](elements).astype(np.float32)
    for slots in {1, -(-elements // 1000), -(-elements // 10), elements}:
        chosen = select(values, slots)
        order = np.argsort(-np.abs(values), kind="stable")[:slots]
        expected = np.sort(order[values[order] != 0])
        assert np.array_equal(chosen[: expected.size], expected)
        assert chosen.size == expected.size


def test_what_is_no_number_comes_first() -> None:
    values = noise(5000)
    values[[17, 4000]] = np.nan, -np.inf
    assert set(select(values, 2)) == {17, 4000}
    assert select(values, 1).tolist() == [17]


@pytest.mark.parametrize(
    ("k", "whole", "part", "slots"),
    [
        (0.01, 1000, 1000, 10),
        (0.01, 1000, 1001, 11),
        (0.01, 1000, 7, 1),
        (0.07, 100, 100, 7),
        (0.001, 5, 5, 1),
        (10, 1000, 1000, 10),
        (10, 1000, 500, 5),
        (10, 1000, 501, 6),
        (3, 1_000_003, 1_000_003, 3),
        (1, 1000, 10, 1),
        (0.999999, 10, 10, 10),
    ],
)
def test_slots(k: float, whole: int, part: int, slots: int) -> None:
    codec = TopK(TopKOptions(k=k))
    codec.check(whole)
    assert codec.slots(part) == slots
    assert codec.wire_bytes(part) == min(8 * slots, 4 * part)
    assert codec.mean_wire_bytes(part, 3) == min(8 * min(part, 3 * slots), 4 * part)
    assert codec.wire_bytes(0) == codec.mean_wire_bytes(0, 3) == 0


def test_a_number_is_a_share_of_the_largest_vector() -> None:
    codec = TopK(TopKOptions(k=10))
    for elements in (1000, 10, 0):
        codec.check(elements)
    assert codec.slots(1000) == 10
    assert codec.slots(10) == 1


def test_more_than_there_are() -> None:
    codec = TopK(TopKOptions(k=101))
    with pytest.raises(
        UserError, match=r"^topk:k=101 is more than the 100 elements of a vector: give at most 100,"
    ):
        codec.check(100)
    codec.check(101)
    assert codec.slots(101) == 101


@pytest.mark.parametrize("k", [0.05, 0.6])
def test_momentum_correction_against_numpy(k: float) -> None:
    """Sparse, and where pairs would take more bytes than all values."""
    elements, m = 400, np.float32(0.9)
    codec = TopK(TopKOptions(k=k, momentum=0.9))
    assert codec.worker_rows == 2
    state = torch.zeros(2, elements)
    wire = torch.empty(codec.wire_bytes(elements), dtype=torch.uint8)
    u = v = np.zeros(elements, np.float32)
    for turn in range(20):
        gradient = noise(elements, turn)
        codec.encode(torch.from_numpy(gradient), wire, state, turn)
        decoded = torch.empty(elements)
        codec.decode(wire, decoded)
        u = m * u + gradient
        v = v + u
        sent = np.argsort(-np.abs(v), kind="stable")[: int(k * elements)]
        mask = np.zeros(elements, bool)
        mask[sent] = True
        assert np.array_equal(decoded.numpy(), np.where(mask, v, 0))
        u, v = np.where(mask, 0, u), np.where(mask, 0, v)
        assert np.array_equal(state.numpy(), [v, u])


def test_no_residual_remembers_what_is_no_number() -> None:
    codec = TopK(TopKOptions(k=0.01, momentum=0.5))
    state = torch.zeros(2, 1000)
    wire = torch.empty(codec.wire_bytes(1000), dtype=torch.uint8)
    values = torch.from_numpy(noise(1000))
    values[:500] = torch.inf
    codec.encode(values, wire, state, 1)
    assert state.isfinite().all()
    assert (state[:, :500] == 0).all()
    assert torch.equal(state[0, 500:], values[500:])


def test_a_mean_that_is_not_sparse() -> None:
    codec = TopK(TopKOptions(k=0.01))
    wire = torch.empty(codec.mean_wire_bytes(1000, 2), dtype=torch.uint8)
    with pytest.raises(ValueError, match="1000 elements that are not zero, in a wire for 20"):
        codec.encode_mean(torch.ones(1000), wire, torch.zeros(0, 1000), 1, 2)
