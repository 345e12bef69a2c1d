"""NumPy arrays and tensors of any framework as a replica."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from arignote.errors import UserError
from arignote.frameworks.array_replica import ArrayReplica


def plain(elements: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    return torch.zeros(elements, dtype=dtype, device=device)


def test_copies_in_and_out() -> None:
    weights, bias = np.arange(6.0).reshape(2, 3), torch.ones(2, dtype=torch.float64)
    replica = ArrayReplica([weights, bias], allocate=plain)
    (vector,) = replica.parameters
    assert vector.tolist() == [0, 1, 2, 3, 4, 5, 1, 1]
    weights += 10
    replica.collect_parameters()
    assert vector[:6].tolist() == [10, 11, 12, 13, 14, 15]
    vector.zero_()
    replica.publish_parameters()
    assert not weights.any()
    assert not bias.any()
    assert replica.gradients == ()


def test_load() -> None:
    array = np.zeros(3, dtype=np.float32)
    replica = ArrayReplica([array], allocate=plain)
    replica.load_named_tensors({"params.0": torch.tensor([1.0, 2.0, 3.0])})
    assert array.tolist() == [1, 2, 3]
    assert replica.parameters[0].tolist() == [1, 2, 3]


def test_empty() -> None:
    with pytest.raises(UserError, match="the model's params are empty: nothing to exchange"):
        ArrayReplica([], allocate=plain)


@pytest.mark.parametrize("wrong", [[1.0], "text", np.broadcast_to(np.zeros(1), 3)])
def test_no_array(wrong: object) -> None:
    with pytest.raises(UserError, match=r"params\[1\] is a \w+: expected a writable NumPy array"):
        ArrayReplica([np.zeros(1), wrong], allocate=plain)
