"""The learning rate as a pure function of progress, so nothing of it needs saving.

    rate(e) = base * growth(e) * curve(e)        e = epochs done, fractions included

    factor    = global batch / reference (linear), its square root (sqrt), or 1 (none)
    growth(e) = factor                                 without warm-up, after it, or if below 1
                1 + (factor - 1) e/w                   linear warm-up over w epochs
                factor ** (e/w)                        geometric warm-up
                factor * e/w                           warm-up from zero
    curve(e)  = gamma ** (milestones <= e)             step
                (1 - e/E) ** power                     poly; E: epochs, or horizon_epochs
                (1 + cos(pi e/E)) / 2                  cosine
                1                                      constant

Linear scaling and its warm-up from the unscaled rate: Goyal et al., arXiv 1706.02677.
Geometric warm-up: Theano-MPI (lr * p^(e/5)). We evaluate it each step, Theano-MPI once an
epoch; the square root is the usual choice for Adam and its kin.
"""

from __future__ import annotations

import math

from arignote.config.settings import Schedule


def scale_factor(settings: Schedule, global_batch_size: int) -> float:
    """How much the base rate grows with the global batch."""
    ratio = global_batch_size / settings.reference_batch_size
    return {"none": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}[settings.scaling]


def growth(settings: Schedule, factor: float, epochs_done: float) -> float:
    """The factor as far as the warm-up has come."""
    warm = settings.warmup_epochs
    if settings.warmup == "none" or epochs_done >= warm:
        return factor
    share = epochs_done / warm
    if settings.warmup == "from-zero":
        return factor * share
    if factor <= 1:
        return factor
    return 1 + (factor - 1) * share if settings.warmup == "linear" else factor**share


def curve(settings: Schedule, epochs_done: float, epochs: float) -> float:
    """The schedule's factor, 1 at the start."""
    progress = min(epochs_done / (settings.horizon_epochs or epochs), 1.0)
    if settings.name == "step":
        passed = sum(milestone <= epochs_done for milestone in settings.milestones)
        return math.pow(settings.gamma, passed)
    if settings.name == "poly":
        return math.pow(1 - progress, settings.power)
    if settings.name == "cosine":
        return (1 + math.cos(math.pi * progress)) / 2
    return 1.0


def learning_rate_factor(
    settings: Schedule, *, epochs_done: float, epochs: float, global_batch_size: int
) -> float:
    """What the base learning rate of every parameter group is multiplied by."""
    factor = scale_factor(settings, global_batch_size)
    return growth(settings, factor, epochs_done) * curve(settings, epochs_done, epochs)
