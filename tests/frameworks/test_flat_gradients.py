"""Gradients arrive in flat vectors, whatever backward and its user do with them."""

from __future__ import annotations

import copy
import gc
from typing import Any

import pytest
import torch
from torch import nn

from arignote.errors import UserError
from arignote.frameworks.flat import by_dtype, move_into, vector_for
from arignote.frameworks.flat_gradients import FlatGradients


def plain(elements: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    return torch.zeros(elements, dtype=dtype, device=device)


class Net(nn.Module):
    """A shared weight, a frozen one, unused ones, non-contiguous ones, and none of one size."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 5, 3, padding=1).to(memory_format=torch.channels_last)
        self.first = nn.Linear(5, 5)
        self.second = nn.Linear(5, 5)
        self.second.weight = self.first.weight
        self.frozen = nn.Parameter(torch.full((5,), 2.0), requires_grad=False)
        self.unused = nn.Parameter(torch.ones(3))
        self.scale = nn.Parameter(torch.tensor(0.7))
        self.slanted = nn.Parameter(torch.randn(7, 5).t())
        self.wide = nn.Linear(7, 2, dtype=torch.float64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.conv(x.to(memory_format=torch.channels_last)).mean((2, 3))
        hidden = self.second(torch.tanh(self.first(hidden))) * self.frozen * self.scale
        return self.wide((hidden @ self.slanted).double())


def trained(module: nn.Module) -> list[nn.Parameter]:
    return [p for p in module.parameters() if p.requires_grad]


def contiguous(module: nn.Module) -> nn.Module:
    """As `TorchReplica` does first of all: another layout gives other bits."""
    for group in by_dtype(trained(module)):
        move_into(vector_for(group, plain), group)
    return module


def flat(module: nn.Module) -> FlatGradients:
    return FlatGradients(trained(contiguous(module)), plain)


def inputs(seed: int) -> torch.Tensor:
    return torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(seed))


def backward(module: nn.Module, seed: int = 1) -> None:
    module(inputs(seed)).square().mean().backward()


def assert_equal_to(module: nn.Module, gradients: FlatGradients, wanted: nn.Module) -> None:
    """All gradients are the flat vectors' views, and hold what torch's own do (none: zero)."""
    starts = dict.fromkeys(range(len(gradients.vectors)), 0)
    dtypes = [vector.dtype for vector in gradients.vectors]
    for ours, theirs in zip(trained(module), trained(wanted), strict=True):
        number = dtypes.index(ours.dtype)
        vector, start = gradients.vectors[number], starts[number]
        starts[number] += ours.numel()
        value = torch.zeros_like(theirs) if theirs.grad is None else theirs.grad
        part = vector[start : start + ours.numel()].view(ours.shape)
        assert ours.grad is not None
        assert ours.grad.data_ptr() == part.data_ptr() and ours.grad.is_contiguous()
        assert torch.equal(part, value)
    assert list(starts.values()) == [vector.numel() for vector in gradients.vectors]


@pytest.fixture
def both() -> tuple[Net, FlatGradients, Net]:
    module, twin = Net(), Net()
    return module, flat(module), contiguous(twin)


def test_gradients_are_views_as_soon_as_backward_is_over(both: Any) -> None:
    module, gradients, twin = both
    assert [vector.dtype for vector in gradients.vectors] == [torch.float32, torch.float64]
    for seed in range(3):
        gradients.let_go()
        backward(module, seed)
        for parameter in trained(module):
            if parameter is not module.unused:
                assert any(
                    parameter.grad.untyped_storage().data_ptr()
                    == vector.untyped_storage().data_ptr()
                    for vector in gradients.vectors
                )
        gradients.collect()
        twin.zero_grad()
        backward(twin, seed)
        assert_equal_to(module, gradients, twin)


def test_several_backwards_add_up_as_in_torch(both: Any) -> None:
    module, gradients, twin = both
    for _ in range(2):
        gradients.let_go()
        twin.zero_grad()
        for seed in range(3):
            backward(module, seed)
            backward(twin, seed)
        gradients.collect()
        assert_equal_to(module, gradients, twin)


def test_backward_without_letting_go_adds_to_what_is_there(both: Any) -> None:
    module, gradients, twin = both
    for seed in range(3):
        backward(module, seed)
        backward(twin, seed)
        gradients.collect()
        assert_equal_to(module, gradients, twin)


@pytest.mark.parametrize("set_to_none", [True, False])
def test_torchs_own_zero_grad(both: Any, set_to_none: bool) -> None:
    module, gradients, twin = both
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for seed in range(3):
        optimizer.zero_grad(set_to_none=set_to_none)
        twin.zero_grad(set_to_none=set_to_none)
        backward(module, seed)
        backward(twin, seed)
        gradients.collect()
        assert_equal_to(module, gradients, twin)


def test_what_a_step_did_not_use_counts_as_zero(both: Any) -> None:
    module, gradients, twin = both
    backward(module)
    gradients.collect()
    gradients.let_go()
    # Of all parameters only this one, where a gradient of the last step still lies.
    for net in (module, twin):
        net.zero_grad()
        net.scale.square().backward()
    gradients.collect()
    assert_equal_to(module, gradients, twin)
    gradients.let_go()
    gradients.collect()
    assert not any(vector.any() for vector in gradients.vectors)
    # Frozen ones have none, before and after.
    assert module.frozen.grad is None


def test_assigned_gradients_are_collected(both: Any) -> None:
    module, gradients, twin = both
    gradients.let_go()
    for net in (module, twin):
        backward(net)
        for number, parameter in enumerate(trained(net)):
            if number % 2:
                parameter.grad = torch.full_like(parameter, float(number))
        net.slanted.grad = torch.arange(35.0).view(7, 5).t()
        net.scale.grad = None
    gradients.collect()
    assert_equal_to(module, gradients, twin)


def test_a_gradient_changed_in_place_is_what_counts(both: Any) -> None:
    module, gradients, twin = both
    gradients.let_go()
    for net in (module, twin):
        backward(net)
        torch.nn.utils.clip_grad_value_(net.parameters(), 1e-3)
        net.second.bias.grad.add_(1.0)
    gradients.collect()
    assert_equal_to(module, gradients, twin)


def test_an_assigned_tensor_is_not_written_to_later(both: Any) -> None:
    module, gradients, _ = both
    kept = torch.ones_like(module.unused)
    module.unused.grad = kept
    gradients.collect()
    gradients.vectors[0].zero_()
    assert bool((kept == 1).all())


def test_hooks_of_users_still_run(both: Any) -> None:
    module, gradients, twin = both
    gradients.let_go()
    for net in (module, twin):
        net.first.bias.register_hook(lambda gradient: 3 * gradient)
        backward(net)
    gradients.collect()
    assert_equal_to(module, gradients, twin)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    module = nn.Linear(6, 5).to(dtype)
    twin = copy.deepcopy(module)
    gradients = flat(module)
    gradients.let_go()
    for net in (module, twin):
        net(torch.ones(2, 6, dtype=dtype)).float().square().sum().backward()
    gradients.collect()
    assert gradients.vectors[0].dtype == dtype
    assert_equal_to(module, gradients, twin)


def test_copies_of_the_module_do_not_write_into_its_vectors(both: Any) -> None:
    module, gradients, _ = both
    gradients.let_go()
    gradients.collect()
    backward(copy.deepcopy(module))
    assert not any(vector.any() for vector in gradients.vectors)


def test_sparse_gradients_are_refused() -> None:
    module = nn.Embedding(10, 4, sparse=True)
    gradients = flat(module)
    gradients.let_go()
    with pytest.raises(UserError, match=r"shape \(10, 4\) is sparse: .*sparse=False"):
        module(torch.tensor([1, 2])).sum().backward()


def test_left_alone_gradients_stay_where_backward_put_them(both: Any) -> None:
    module, gradients, twin = both
    gradients.leave()
    for seed in range(2):
        gradients.let_go()
        twin.zero_grad()
        backward(module, seed)
        backward(twin, seed)
        computed = {p: p.grad for p in trained(module)}
        gradients.collect()
        for ours, theirs in zip(trained(module), trained(twin), strict=True):
            assert computed[ours] is None or ours.grad is computed[ours]
            value = torch.zeros_like(theirs) if theirs.grad is None else theirs.grad
            assert torch.equal(ours.grad, value)
        # The unused one's is zero.
        assert not any(vector.any() for vector in gradients.vectors)


def test_sparse_gradients_are_refused_when_left_alone_too() -> None:
    module = nn.Embedding(10, 4, sparse=True)
    gradients = flat(module)
    gradients.leave()
    gradients.let_go()
    module(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(UserError, match=r"shape \(10, 4\) is sparse: .*sparse=False"):
        gradients.collect()


def test_no_gradient_is_kept_beside_the_vectors() -> None:
    module = nn.Sequential(nn.Linear(300, 300), nn.Conv1d(1, 3, 3))
    gradients = flat(module)
    ours = {vector.untyped_storage().data_ptr() for vector in gradients.vectors}

    def others() -> int:
        """Elements of float tensors that are no parameter and no part of the vectors."""
        gc.collect()
        storages = {
            t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() // 4
            for t in gc.get_objects()
            if type(t) is torch.Tensor and t.layout is torch.strided and t.is_floating_point()
        }
        return sum(size for place, size in storages.items() if place not in ours)

    gradients.let_go()
    before = others()
    for _ in range(2):
        gradients.let_go()
        module(torch.ones(2, 1, 300)).sum().backward()
        assert all(p.grad.untyped_storage().data_ptr() in ours for p in module.parameters())
        gradients.collect()
    assert others() == before


class Listener:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def begin(self, samples: float) -> None:
        self.told.append(samples)

    def ready(self, vector: int, start: int) -> None:
        self.told.append((vector, start))


def test_a_listener_hears_of_each_gradient_once_after_begin() -> None:
    module = Net()
    gradients = flat(module)
    gradients.begin(1.0)
    listener = gradients.listener = Listener()
    gradients.let_go()
    backward(module, 1)
    assert listener.told == []
    gradients.begin(4.0)
    backward(module, 2)
    first, *others = listener.told
    assert first == 4.0
    # Once each, the shared one too; all but the unused.
    assert len(others) == len(set(others)) == len(trained(module)) - 1
    # The last layer's come first.
    assert others[0][0] == 1 and others[-1][0] == 0
    gradients.collect()
    backward(module, 3)
    assert len(listener.told) == len(trained(module))
