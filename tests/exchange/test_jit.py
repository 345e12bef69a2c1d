"""Compiled loops: ready before the first step, for what the rules give them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from arignote.exchange.jit import jit, load
from arignote.exchange.letter_format import Array
from arignote.rules import adpsgd, asgd, easgd, letters
from arignote.rules.adpsgd import ADPSGD
from arignote.rules.easgd import Elastic
from arignote.rules.gosgd import GOSGD


@jit
def scale_(vector: Array, by: Array, factor: float) -> None:
    """vector <- factor * by * vector."""
    for i in range(vector.size):
        vector[i] *= factor * by[i]


def test_what_is_loaded_is_not_compiled_again() -> None:
    assert scale_.signatures == []
    load([scale_], [np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.float32)])
    assert len(scale_.signatures) == 2
    for dtype in (np.float32, np.float64):
        vector = np.arange(4, dtype=dtype)
        scale_(vector[1:], vector[1:].copy(), dtype(2))
        assert vector.tolist() == [0, 2, 8, 18]
    assert len(scale_.signatures) == 2


@pytest.mark.parametrize(
    ("module", "loops"),
    [
        (letters, GOSGD.loops),
        (adpsgd, ADPSGD.loops),
        (easgd, Elastic.loops),
        (asgd, asgd.Push(asgd.ASGDOptions(compensation="constant")).loops),
    ],
)
def test_no_loop_is_left_to_the_first_step(module: Any, loops: Any) -> None:
    own = [o for o in vars(module).values() if hasattr(o, "py_func")]
    assert sorted(map(repr, loops)) == sorted(
        repr(loop) for loop in own if loop.py_func.__module__ == module.__name__
    )
