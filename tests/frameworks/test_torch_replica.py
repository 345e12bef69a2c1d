"""A module becomes flat vectors and never notices."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from arignote.errors import CheckpointError, UserError
from arignote.frameworks.torch_replica import TorchReplica


def plain(elements: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    return torch.zeros(elements, dtype=dtype, device=device)


class Tied(nn.Module):
    """Two layers share a weight, one parameter is frozen, one never used, one not contiguous."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.second = nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.frozen = nn.Parameter(torch.ones(6), requires_grad=False)
        self.unused = nn.Parameter(torch.ones(3))
        self.slanted = nn.Parameter(torch.randn(6, 4).t())
        self.norm = nn.BatchNorm1d(6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.second(self.first(x)) * self.frozen) @ self.slanted.t()


def replica_of(module: nn.Module, **options: object) -> TorchReplica:
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    return TorchReplica(module, optimizer, allocate=plain, **options)  # type: ignore[arg-type]


def train(module: nn.Module, optimizer: object, replica: TorchReplica | None, steps: int) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        inputs = torch.randn(8, 6, generator=generator)
        if replica is None:
            optimizer.zero_grad(set_to_none=False)  # type: ignore[attr-defined]
        else:
            replica.zero_grad()
        module(inputs).square().mean().backward()
        if replica is None:
            optimizer.step()  # type: ignore[attr-defined]
        else:
            replica.collect_gradients()
            replica.update()


def test_training_is_bit_for_bit_that_of_the_plain_module() -> None:
    torch.manual_seed(0)
    flat = Tied()
    plain_module = copy.deepcopy(flat)
    replica = replica_of(flat)
    # Flat, it is contiguous; a BLAS may round the product with a transposed one in another way.
    plain_module.slanted.data = plain_module.slanted.data.contiguous()
    optimizer = torch.optim.SGD(plain_module.parameters(), lr=0.1, momentum=0.9)
    train(flat, None, replica, 5)
    train(plain_module, optimizer, None, 5)
    for (name, ours), theirs in zip(
        flat.state_dict().items(), plain_module.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name


def test_parameters_gradients_and_buffers_are_views_of_one_vector_each() -> None:
    module = Tied()
    replica = replica_of(module)
    (vector,) = replica.parameters
    (gradient,) = replica.gradients
    (buffer,) = replica.buffers
    trained = [p for p in module.parameters() if p.requires_grad]
    assert vector.numel() == gradient.numel() == sum(p.numel() for p in trained)
    assert buffer.numel() == 12
    vector.zero_()
    gradient.fill_(3.0)
    buffer.fill_(5.0)
    assert all(not p.any() for p in trained)
    assert all(bool((p.grad == 3).all()) for p in trained if p.grad is not None)
    assert bool((module.norm.running_var == 5).all())
    assert bool((module.frozen == 1).all())
    assert module.second.weight is module.first.weight


def test_gradients_put_elsewhere_are_collected() -> None:
    module = Tied()
    replica = replica_of(module)
    # As torch's own zero_grad() does: it lets go of the flat vector.
    replica.optimizer.zero_grad(set_to_none=True)
    module(torch.randn(8, 6)).sum().backward()
    expected = [None if p.grad is None else p.grad.clone() for p in module.parameters()]
    replica.collect_gradients()
    (vector,) = replica.gradients
    assert float(vector.abs().sum()) > 0
    for parameter, gradient in zip(module.parameters(), expected, strict=True):
        if parameter.requires_grad:
            assert parameter.grad is not None
            assert (
                parameter.grad.untyped_storage().data_ptr() == vector.untyped_storage().data_ptr()
            )
            wanted = torch.zeros_like(parameter) if gradient is None else gradient
            assert torch.equal(parameter.grad, wanted)


def test_mixed_dtypes_get_a_vector_each() -> None:
    module = nn.ModuleList([nn.Linear(3, 2), nn.Linear(2, 2).double()])
    replica = replica_of(module)
    assert [v.dtype for v in replica.parameters] == [torch.float32, torch.float64]
    assert [v.numel() for v in replica.gradients] == [8, 6]


def test_state_round_trip_keeps_the_views() -> None:
    module, other = Tied(), Tied()
    replica, twin = replica_of(module), replica_of(other)
    train(module, None, replica, 3)
    twin.load_named_tensors({k: v.clone() for k, v in replica.named_tensors().items()})
    twin.load_optimizer_state(copy.deepcopy(replica.optimizer_state()))
    assert torch.equal(twin.parameters[0], replica.parameters[0])
    train(module, None, replica, 2)
    train(other, None, twin, 2)
    assert torch.equal(twin.parameters[0], replica.parameters[0])


def test_clipping() -> None:
    module = nn.Linear(4, 1, bias=False)
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    replica = TorchReplica(module, optimizer, allocate=plain, clip_norm=0.5)
    before = module.weight.detach().clone()
    replica.gradients[0].fill_(10.0)
    replica.update()
    assert float((module.weight.detach() - before).norm()) == pytest.approx(0.5, rel=1e-5)


def test_loss_scaling_skips_a_step_that_overflowed() -> None:
    module = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    replica = TorchReplica(module, optimizer, allocate=plain, scaler=scaler)
    before = replica.parameters[0].clone()
    scaler.scale(module(torch.ones(2, 4)).mean()).backward()
    replica.gradients[0][0] = float("inf")
    replica.update()
    assert torch.equal(replica.parameters[0], before)
    assert scaler.get_scale() == 2.0
    replica.zero_grad()
    scaler.scale(module(torch.ones(2, 4)).mean()).backward()
    replica.update()
    # d mean / d bias = 1, whatever the scale.
    assert float(before[-1] - replica.parameters[0][-1]) == pytest.approx(1.0)


def test_nothing_to_train() -> None:
    module = nn.Linear(2, 2).requires_grad_(False)
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)
    with pytest.raises(UserError, match="no parameter with requires_grad: nothing to train"):
        TorchReplica(module, optimizer, allocate=plain)


def test_foreign_optimizer() -> None:
    optimizer = torch.optim.SGD(nn.Linear(3, 2).parameters(), lr=0.1)
    with pytest.raises(UserError, match=r"a tensor of shape \(2, 3\) that is no parameter"):
        TorchReplica(nn.Linear(2, 2), optimizer, allocate=plain)


def test_sparse_gradient() -> None:
    module = nn.Embedding(10, 3, sparse=True)
    replica = replica_of(module)
    replica.optimizer.zero_grad(set_to_none=True)
    with pytest.raises(
        UserError, match=r"shape \(10, 3\) is sparse: build its layer with sparse=F"
    ):
        module(torch.tensor([1, 2])).sum().backward()


def test_complex_parameters() -> None:
    module = nn.Linear(2, 2, dtype=torch.complex64)
    with pytest.raises(UserError, match=r"a parameter is torch\.complex64: expected a real fl"):
        replica_of(module)


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_lazy_layers() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.LazyLinear(2))
    with pytest.raises(UserError, match="a layer is lazy and has no weights yet: run one batch"):
        replica_of(module)


def test_lbfgs() -> None:
    module = nn.Linear(2, 2)
    optimizer = torch.optim.LBFGS(module.parameters())
    with pytest.raises(UserError, match="LBFGS evaluates the loss many times a step: use another"):
        TorchReplica(module, optimizer, allocate=plain)


def test_optimizer_state_of_another_kind_or_shape() -> None:
    module = Tied()
    state = replica_of(module).optimizer_state()
    adam = TorchReplica(module, torch.optim.Adam(module.parameters()), allocate=plain)
    message = r"the checkpoint's optimizer is SGD over \[\d\] parameters, this one Adam over"
    with pytest.raises(CheckpointError, match=message):
        adam.load_optimizer_state(state)
    with pytest.raises(CheckpointError, match=r"SGD over \[\d\] param.* one SGD over \[2\]"):
        replica_of(nn.Linear(2, 2)).load_optimizer_state(state)


def test_settings_of_the_optimizer_are_those_of_now() -> None:
    module = nn.Linear(2, 2)
    state = replica_of(module).optimizer_state()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5, momentum=0.1, weight_decay=0.2)
    replica = TorchReplica(module, optimizer, allocate=plain)
    replica.load_optimizer_state(state)
    group = replica.optimizer.param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.5, 0.1, 0.2)
