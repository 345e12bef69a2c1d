"""Replacing batch-norm layers keeps what a user did with them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from arignote.comm.serial import SerialWorld
from arignote.trainer.batch_norm import SynchronisedBatchNorm, synchronise_batch_norm


class Own(nn.BatchNorm1d):
    """A user's own layer."""


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = self.second = nn.BatchNorm1d(3)
        self.frozen = nn.BatchNorm1d(3).requires_grad_(False)
        self.wide = nn.BatchNorm1d(3).double()
        self.own = Own(3)
        self.bare = nn.BatchNorm1d(3, affine=False, track_running_stats=False, momentum=None)


def test_shared_frozen_and_own_layers_stay_what_they_are() -> None:
    net = Net()
    before = dict(net.named_parameters())
    synchronise_batch_norm(net, SerialWorld())
    assert net.first is net.second
    assert isinstance(net.first, SynchronisedBatchNorm)
    assert isinstance(net.bare, SynchronisedBatchNorm)
    assert type(net.own) is Own
    after = dict(net.named_parameters())
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)
    assert not net.frozen.weight.requires_grad
    assert net.wide.weight.dtype == torch.float64


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(3), nn.BatchNorm1d(3, momentum=None)])
def test_one_worker_equals_torchs_own_layer(layer: nn.BatchNorm1d) -> None:
    twin = nn.BatchNorm1d(3, momentum=layer.momentum).double()
    ours = synchronise_batch_norm(layer.double(), SerialWorld())
    for _ in range(3):
        x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
        y = x.detach().clone().requires_grad_()
        left, right = ours(x), twin(y)
        assert torch.allclose(left, right, rtol=1e-12)
        left.pow(3).sum().backward()
        right.pow(3).sum().backward()
        assert x.grad is not None
        assert y.grad is not None
        assert torch.allclose(x.grad, y.grad, rtol=1e-9, atol=1e-12)
    for (name, a), b in zip(ours.state_dict().items(), twin.state_dict().values(), strict=True):
        assert torch.allclose(a, b, rtol=1e-12), name


def test_input_without_channels() -> None:
    layer = synchronise_batch_norm(nn.BatchNorm1d(3), SerialWorld()).eval()
    with pytest.raises(ValueError, match=r"batch norm needs an input of \(N, C, ...\), got 1-D"):
        layer(torch.zeros(3))
