"""Nested state survives a file, with its types; nothing is pickled."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from arignote.checkpoint.digest import weights_sha256
from arignote.checkpoint.pack import load_state, save_state
from arignote.durable import file_sha256


def test_round_trip(tmp_path: Path) -> None:
    shared = torch.arange(6.0)
    state = {
        "state": {0: {"step": torch.tensor(3.0), "momentum": shared[:3]}, 1: {"m": shared[3:]}},
        "groups": [{"lr": 0.1, "betas": (0.9, 0.999), "flag": True, "none": None, "name": "é"}],
        "empty": {},
        "bytes": torch.zeros(5, dtype=torch.uint8),
        "bf16": torch.ones(2, 2, dtype=torch.bfloat16).t(),
    }
    save_state(tmp_path / "x", state)
    back = load_state(tmp_path / "x")
    assert back["groups"] == state["groups"]
    assert isinstance(back["groups"][0]["betas"], tuple)
    assert list(back["state"]) == [0, 1]
    assert back["state"][0]["momentum"].tolist() == [0, 1, 2]
    assert back["state"][1]["m"].tolist() == [3, 4, 5]
    assert back["state"][0]["step"].shape == ()
    assert back["bf16"].dtype == torch.bfloat16
    assert back["empty"] == {}


def test_what_cannot_be_held(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="a checkpoint cannot hold a set"):
        save_state(tmp_path / "x", {"a": {1, 2}})


def test_weights_digest() -> None:
    a = {"x": torch.tensor([1.0, 2.0]), "y": torch.tensor([[1, 2]])}
    assert weights_sha256(a) == weights_sha256(dict(reversed(a.items())))
    for other in (
        {"x": torch.tensor([1.0, 2.0]), "z": torch.tensor([[1, 2]])},
        {"x": torch.tensor([1.0, 2.0]), "y": torch.tensor([[1], [2]])},
        {"x": torch.tensor([1.0, 2.0]).double(), "y": torch.tensor([[1, 2]])},
        {"x": torch.tensor([1.0, -0.0]), "y": torch.tensor([[1, 2]])},
    ):
        assert weights_sha256(other) != weights_sha256(a)
    assert weights_sha256({"t": torch.ones(2, 3).t()}) == weights_sha256({"t": torch.ones(3, 2)})
    assert weights_sha256({"s": torch.tensor(1.0)}) != weights_sha256({"s": torch.tensor(2.0)})


def test_durable(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert file_sha256(tmp_path / "x").startswith("ba7816bf8f01cfea414140de5dae2223")
