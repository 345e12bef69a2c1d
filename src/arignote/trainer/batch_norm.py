"""Batch normalisation over all workers' batches together, without torch.distributed.

Forward, for each channel, with sums over the samples and pixels of all workers:

    m = S1 / N,  v = S2 / N,  y = (x - m) / sqrt(v + eps) * gamma + beta
    S1 = sum x,  S2 = sum (x - m)^2,  N = count

Backward, with x^ = (x - m)/sqrt(v + eps) and g = dL/dy * gamma (each worker's L is the mean
over its own samples, and gradients are later averaged weighted by samples; so the sums weigh
each worker's g by its share n_i/N before adding, and divide by the own share at the end):

    dL/dx = (g - (sum g + x^ * sum g x^) / N) / sqrt(v + eps)

Ioffe and Szegedy, arXiv 1502.03167. The variance is summed in a second pass around the true
mean, so that n workers agree with one to rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from arignote.comm.base import World


def _sum_over_workers(values: torch.Tensor, world: World) -> torch.Tensor:
    """The sum of every worker's `values`, in float64 on the way."""
    total = world.meet(values.double().flatten().cpu().tolist(), "synchronised batch norm")
    return torch.from_numpy(total).to(values).view(values.shape)


class _Normalise(torch.autograd.Function):
    """x (N, C, *) -> (y, mean (C,), biased variance (C,), count), over all workers."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, eps: float, world: World
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        axes = [axis for axis in range(x.ndim) if axis != 1]
        shape = [-1 if axis == 1 else 1 for axis in range(x.ndim)]
        own = x.new_tensor([x.numel() // max(1, x.shape[1])], dtype=torch.float64)
        first = torch.cat([x.double().sum(axes), own])
        total = _sum_over_workers(first, world)
        count = total[-1]
        mean = total[:-1] / count
        centred = x.double() - mean.view(shape)
        variance = _sum_over_workers(centred.square().sum(axes), world) / count
        scale = (variance + eps).rsqrt()
        normal = (centred * scale.view(shape)).to(x.dtype)
        ctx.save_for_backward(normal, scale, own / count, count)
        ctx.world, ctx.axes, ctx.shape = world, axes, shape
        ctx.mark_non_differentiable(mean, variance, count)
        return normal, mean, variance, count

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor, *_: Any) -> tuple[torch.Tensor, None, None]:
        normal, scale, share, count = ctx.saved_tensors
        g = grad.double()
        own = torch.stack([g.sum(ctx.axes), (g * normal).sum(ctx.axes)])
        empty = bool(share == 0)
        total = _sum_over_workers(torch.zeros_like(own) if empty else own * share, ctx.world)
        if empty:
            return torch.zeros_like(grad), None, None
        first, second = (total / (share * count)).unbind()
        inner = g - first.view(ctx.shape) - normal * second.view(ctx.shape)
        return (inner * scale.view(ctx.shape)).to(grad.dtype), None, None


class SynchronisedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """A batch-norm layer whose training statistics are those of all workers' batches."""

    world: World

    def _check_input_dim(self, input: torch.Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"batch norm needs an input of (N, C, ...), got {input.ndim}-D")

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """As the layer it replaces; in training, every worker must call it."""
        if not self.training:
            return super().forward(input)
        normal, mean, variance, count = _Normalise.apply(input, self.eps, self.world)  # type: ignore[no-untyped-call]
        if self.running_mean is not None and self.running_var is not None:
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
            rate = self.momentum
            if rate is None:
                rate = 1.0 / float(self.num_batches_tracked)
            unbiased = variance * count / (count - 1).clamp(min=1)
            self.running_mean.lerp_(mean.to(self.running_mean), rate)
            self.running_var.lerp_(unbiased.to(self.running_var), rate)
        outputs: torch.Tensor = normal
        if self.affine:
            shape = [-1 if axis == 1 else 1 for axis in range(input.ndim)]
            outputs = normal * self.weight.view(shape) + self.bias.view(shape)
        return outputs


_PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def synchronise_batch_norm(module: nn.Module, world: World) -> nn.Module:
    """`module` with torch's own batch-norm layers replaced.

    Parameters and buffers stay the same objects, so frozen ones stay frozen and shared layers
    shared; a subclass of a user's own is left as it is.
    """
    return _replace(module, world, {})


def _replace(module: nn.Module, world: World, done: dict[int, nn.Module]) -> nn.Module:
    if id(module) in done:
        return done[id(module)]
    done[id(module)] = module
    if type(module) in _PLAIN:
        assert isinstance(module, nn.modules.batchnorm._BatchNorm)
        twin = SynchronisedBatchNorm(
            module.num_features,
            module.eps,
            module.momentum,
            module.affine,
            module.track_running_stats,
        )
        twin.world = world
        twin._parameters = module._parameters
        twin._buffers = module._buffers
        twin.train(module.training)
        done[id(module)] = twin
        return twin
    # Not named_children(): that skips a layer's second name in the same parent.
    for name, child in list(module._modules.items()):
        if child is not None:
            setattr(module, name, _replace(child, world, done))
    return module
