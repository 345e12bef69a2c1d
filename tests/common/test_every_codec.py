"""What every codec holds to, as a pure function: its reference in NumPy, its wire, its bounds."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch

from arignote.config.exchange_options import CODEC_OPTIONS, CodecOptions
from arignote.exchange.base import Codec
from arignote.registry import CODECS

NAMES = [entry.name for entry in CODECS]
SIZES = (0, 1, 7, 4096, 100_003)
FEEDBACK = [name for name in NAMES if CODECS.load(name).worker_rows]
GUARD = 0xA5


def make(name: str) -> Codec:
    codec: Codec = CODECS.load(name)(CODEC_OPTIONS.get(name, CodecOptions)())
    return codec


def noise(elements: int, seed: int = 0) -> torch.Tensor:
    """Magnitudes that differ from block to block, as gradients' do."""
    generator = torch.Generator().manual_seed(seed)
    spread = torch.randn(elements // 256 + 1, generator=generator).exp().repeat_interleave(256)
    return torch.randn(elements, generator=generator) * spread[:elements]


def state_of(codec: Codec, elements: int) -> torch.Tensor:
    return torch.zeros(codec.worker_rows, elements)


def through(codec: Codec, values: torch.Tensor, seed: int = 1, state: Any = None) -> torch.Tensor:
    """What comes out at the other end."""
    state = state_of(codec, values.numel()) if state is None else state
    wire = torch.empty(codec.wire_bytes(values.numel()), dtype=torch.uint8)
    codec.encode(values, wire, state, seed)
    back = torch.full_like(values, torch.nan)
    codec.decode(wire, back)
    return back


# References, one a codec, written from the formulas.


def in_blocks(values: Any, size: int) -> list[Any]:
    return [values[start : start + size] for start in range(0, values.size, size)]


def fp16_reference(values: Any, seed: int) -> Any:
    def block(x: Any) -> Any:
        scale = 2.0 ** (14 - np.floor(np.log2(np.abs(x).max()))) if x.any() else 1.0
        return ((x * np.float32(scale)).astype(np.float16) / scale).astype(np.float32)

    return np.concatenate([block(x) for x in in_blocks(values, 1024)])


def bf16_reference(values: Any, seed: int) -> Any:
    exact = values.astype(np.float64)
    step = 2.0 ** (np.floor(np.log2(np.abs(exact))) - 7)
    return (np.rint(exact / step) * step).astype(np.float32)


def int8_reference(values: Any, seed: int) -> Any:
    """With the same dice: lowbias32 of (index, key) in integers of any size."""
    key = (seed ^ (seed >> 32)) * 0x9E3779B1 % 2**32
    h = np.arange(values.size, dtype=np.uint64) ^ np.uint64(key)
    h = (h ^ (h >> 16)) * 0x7FEB352D % 2**32
    h = (h ^ (h >> 15)) * 0x846CA68B % 2**32
    chance = ((h ^ (h >> 16)) >> 8) / 2.0**24
    decoded = []
    for x, u in zip(in_blocks(values, 512), in_blocks(chance, 512), strict=True):
        scale = np.abs(x).max() / np.float32(127)
        level = np.clip(x * (np.float32(1) / scale), -127, 127)
        decoded.append((np.floor(level) + (u < level - np.floor(level))) * scale)
    return np.concatenate(decoded).astype(np.float32)


def onebit_reference(values: Any, seed: int) -> Any:
    return np.concatenate(
        [np.where(x < 0, -1, 1) * np.abs(x).mean(dtype=np.float64) for x in in_blocks(values, 1024)]
    ).astype(np.float32)


def topk_reference(values: Any, seed: int) -> Any:
    sent = np.argsort(-np.abs(values), kind="stable")[: max(1, -(-values.size // 100))]
    decoded = np.zeros_like(values)
    decoded[sent] = values[sent]
    return decoded


def same(values: Any, seed: int) -> Any:
    return values


REFERENCES = {
    "fp32": same,
    "fp16": fp16_reference,
    "bf16": bf16_reference,
    "int8": int8_reference,
    "onebit": onebit_reference,
    "topk": topk_reference,
    "powersgd": same,
}
NEARLY = {"onebit": 1e-6}
"""Where sums are rounded in another order."""


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("elements", [e for e in SIZES if e])
def test_against_numpy(name: str, elements: int) -> None:
    for seed in (1, 2**62 + 12345):
        values = noise(elements, elements)
        decoded = through(make(name), values, seed).numpy()
        expected = REFERENCES[name](values.numpy(), seed)
        np.testing.assert_allclose(decoded, expected, rtol=NEARLY.get(name, 0), atol=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("elements", SIZES)
def test_a_wire_is_what_was_promised(name: str, elements: int) -> None:
    """All of its bytes are written, none beyond; the values stay; twice gives the same."""
    codec = make(name)
    codec.check(elements)
    size = codec.wire_bytes(elements)
    values = noise(elements, 3)
    kept = values.clone()
    wires, states, decoded = [], [], []
    for fill in (0x00, 0xFF):
        memory = torch.full((size + 128,), GUARD, dtype=torch.uint8)
        wire = memory[64 : 64 + size]
        wire.fill_(fill)
        state = state_of(codec, elements)
        codec.encode(values, wire, state, 5)
        back = torch.full((elements + 8,), float(fill))
        codec.decode(wire, back[4 : elements + 4])
        assert (memory[:64] == GUARD).all()
        assert (memory[64 + size :] == GUARD).all()
        assert (back[:4] == fill).all()
        assert (back[elements + 4 :] == fill).all()
        wires.append(wire)
        states.append(state)
        decoded.append(back[4 : elements + 4])
    assert torch.equal(values, kept)
    assert torch.equal(*wires)
    assert torch.equal(*states)
    assert torch.equal(*decoded)


@pytest.mark.parametrize(
    ("name", "bits"),
    [("fp32", 32), ("fp16", 16), ("bf16", 16), ("int8", 8), ("onebit", 1), ("topk", 0.64)],
)
def test_wires_are_as_small_as_the_codec_says(name: str, bits: float) -> None:
    elements = 1 << 20
    assert bits / 8 <= make(name).wire_bytes(elements) / elements <= bits / 8 + 0.01


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("elements", [1, 7, 4096, 100_003])
def test_means_come_back_as_encoded(name: str, elements: int) -> None:
    codec = make(name)
    for senders in (1, 2, 5):
        values = sum(through(codec, noise(elements, seed)) for seed in range(senders)) / senders
        kept = values.clone()
        wire = torch.full((codec.mean_wire_bytes(elements, senders),), GUARD, dtype=torch.uint8)
        state = torch.zeros(codec.owner_rows, elements)
        codec.encode_mean(values, wire, state, 7, senders)
        assert torch.equal(values, kept)
        back = torch.full((elements,), torch.nan)
        codec.decode_mean(wire, back, senders)
        if codec.owner_rows:
            assert torch.allclose(back + state[0], kept, atol=1e-5)
        elif name == "topk" or codec.lossless:
            assert torch.equal(back, kept)
        else:
            assert (back - kept).abs().max() <= kept.abs().max() / 127


def test_fp16_error_is_relative() -> None:
    values = noise(100_003)
    error = (through(make("fp16"), values) - values).abs()
    assert (error <= 2.0**-11 * values.abs()).all()


def test_bf16_error_is_relative() -> None:
    values = noise(100_003)
    error = (through(make("bf16"), values) - values).abs()
    assert (error <= 2.0**-8 * values.abs()).all()


def test_bf16_rounds_ties_to_even_and_too_large_to_infinity() -> None:
    values = torch.tensor([1 + 2.0**-8, 1 + 3 * 2.0**-8, -(1 + 2.0**-8), 3.4e38, -3.4e38])
    expected = [1.0, 1 + 2.0**-6, -1.0, torch.inf, -torch.inf]
    assert through(make("bf16"), values).tolist() == expected


def test_fp16_has_every_number_of_half_precision() -> None:
    halves = np.arange(0x7800, dtype=np.uint16).view(np.float16).astype(np.float32)
    # All below 2^15, and 2^14 in every block, so that the factor is 1.
    parts = torch.from_numpy(np.concatenate([halves, -halves])).split(1023)
    values = torch.cat([torch.cat([torch.tensor([2.0**14]), part]) for part in parts])
    assert torch.equal(through(make("fp16"), values), values)


def test_int8_errs_by_less_than_a_level_and_not_on_average() -> None:
    values, codec = noise(2048, 4), make("int8")
    levels = values.view(-1, 512).abs().amax(1).repeat_interleave(512) / 127
    total, rounds = torch.zeros(2048, dtype=torch.float64), 2000
    for seed in range(rounds):
        decoded = through(codec, values, seed)
        assert ((decoded - values).abs() < levels * 1.00001).all()
        total += decoded
    # The error of one round has at most a variance of a quarter of a level squared.
    deviations = ((total / rounds - values) / (levels * 0.5 / rounds**0.5)).abs()
    assert deviations.max() < 5
    assert ((total / rounds - values) / levels).mean().abs() < 5 * 0.5 / (2048 * rounds) ** 0.5


def test_int8_rolls_other_dice_for_another_seed() -> None:
    values, codec = noise(4096), make("int8")
    assert torch.equal(through(codec, values, 1), through(codec, values, 1))
    for other in (2, 2**32 + 1, 2**62 + 1):
        assert (through(codec, values, 1) != through(codec, values, other)).float().mean() > 0.1


def test_onebit_has_a_scale_a_block() -> None:
    values = torch.cat([torch.full((1024,), 100.0), torch.full((7,), -1e-3)])
    assert torch.equal(through(make("onebit"), values), values)


@pytest.mark.parametrize("name", FEEDBACK)
@pytest.mark.parametrize("elements", [1, 7, 1024, 5003])
@pytest.mark.parametrize("workers", [1, 3])
def test_what_is_lost_is_kept_on_both_sides(name: str, elements: int, workers: int) -> None:
    """Sum of all means + what is still owed = mean of all gradients."""
    codec = make(name)
    codec.check(elements)
    states = [state_of(codec, elements) for _ in range(workers)]
    owner = torch.zeros(codec.owner_rows, elements)
    brought = torch.zeros(elements, dtype=torch.float64)
    received = torch.zeros(elements, dtype=torch.float64)
    wire = torch.empty(codec.mean_wire_bytes(elements, workers), dtype=torch.uint8)
    mean = torch.empty(elements)
    for turn in range(60):
        gradients = [noise(elements, 10 * turn + rank) + 0.1 for rank in range(workers)]
        decoded = [
            through(codec, gradient, turn, state)
            for gradient, state in zip(gradients, states, strict=True)
        ]
        codec.encode_mean(torch.stack(decoded).mean(0), wire, owner, turn, workers)
        codec.decode_mean(wire, mean, workers)
        received += mean
        brought += torch.stack(gradients).mean(0)
    owed = torch.stack([state[0] for state in states]).mean(0).double()
    owed += owner.sum(0) if codec.owner_rows else 0
    assert torch.allclose(received + owed, brought, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_nan_and_infinity_pass_through_once(name: str, bad: float) -> None:
    codec = make(name)
    values = noise(5003)
    values[[1500, 1501]] = torch.tensor([bad, 2.0])
    state = state_of(codec, 5003)
    decoded = through(codec, values, 1, state)
    if name in ("int8", "onebit"):
        assert decoded[1500].isnan()
    else:
        assert decoded[1500].isnan() if np.isnan(bad) else decoded[1500] == bad
        assert decoded[1501] in (0, 2)
    # At most the block is lost, and no residual remembers it.
    assert decoded[:1024].isfinite().all()
    assert decoded[2048:].isfinite().all()
    assert state.isfinite().all()
    assert through(codec, noise(5003, 1), 2, state).isfinite().all()


@pytest.mark.parametrize("name", FEEDBACK)
def test_a_vector_of_nan_leaves_no_nan_behind(name: str) -> None:
    codec = make(name)
    state = state_of(codec, 5003)
    assert not through(codec, torch.full((5003,), torch.nan), 1, state).isfinite().all()
    assert state.isfinite().all()


def test_fp16_keeps_nan_and_infinity_apart() -> None:
    values = noise(1024)
    values[3], values[5], values[7] = torch.nan, torch.inf, -torch.inf
    decoded = through(make("fp16"), values)
    assert decoded[3].isnan()
    assert decoded[5] == torch.inf
    assert decoded[7] == -torch.inf
    rest = values.isfinite()
    assert torch.allclose(decoded[rest], values[rest], rtol=2.0**-11, atol=2.0**-25)


@pytest.mark.parametrize("name", NAMES)
def test_zeros_stay_zeros(name: str) -> None:
    values = noise(5003)
    values[1024:3072] = 0
    decoded = through(make(name), values)
    assert (decoded[1024:3072] == 0).all()
    assert (through(make(name), torch.zeros(1000)) == 0).all()


BOUNDS = {"fp16": 2.0**-11, "bf16": 2.0**-8, "int8": 1 / 126}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("largest", [3.3e38, 1e30, 1e-30, 1e-37, 1e-41, 1.4e-45])
def test_the_ends_of_the_range(name: str, largest: float) -> None:
    values = noise(4096)
    values *= 1 / values.abs().max()
    values = (values.double() * largest).float()
    state = state_of(make(name), 4096)
    decoded = through(make(name), values, 1, state)
    assert decoded.isfinite().all()
    if name in BOUNDS:
        blocks = values.view(-1, 512).abs().amax(1).repeat_interleave(512)
        # int8 gives up below 1.5e-36; denormal numbers have fewer digits.
        slack = 1.6e-36 if name == "int8" else 2.0**-133
        error = (decoded.double() - values.double()).abs()
        assert (error <= BOUNDS[name] * blocks.double() + slack).all()
    if name in FEEDBACK:
        assert torch.allclose(decoded + state[0], values, rtol=1e-5, atol=float(blocks_max(values)))


def blocks_max(values: torch.Tensor) -> torch.Tensor:
    """What rounding of a sum with the largest may cost the smallest."""
    return values.abs().max() * 2.0**-22


# The loops of powersgd are its exchange's.
@pytest.mark.parametrize("name", sorted({*NAMES} - {"fp32", "powersgd"}))
def test_nothing_is_compiled_after_a_rehearsal(name: str) -> None:
    codec = make(name)
    codec.rehearse(100, 3)
    loops = [o for o in vars(inspect.getmodule(type(codec))).values() if hasattr(o, "signatures")]
    before = [len(loop.signatures) for loop in loops]
    elements = 5000
    values, states = noise(elements + 2)[1:-1], torch.zeros(2, codec.worker_rows, elements)
    wire = torch.empty(codec.wire_bytes(elements) + 4, dtype=torch.uint8)[4:]
    codec.encode(values, wire, states[1], 5)
    codec.decode(wire, values)
    wire = torch.empty(codec.mean_wire_bytes(elements, 3), dtype=torch.uint8)
    codec.encode_mean(values, wire, torch.zeros(codec.owner_rows, elements), 5, 3)
    codec.decode_mean(wire, values, 3)
    assert [len(loop.signatures) for loop in loops] == before
    assert not loops or any(before)
