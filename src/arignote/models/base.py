"""What a model is: Theano-MPI's general contract, and the PyTorch class that most models are.

`Model` is what you write for PyTorch: `build`, and where the defaults do not fit `loss`,
`optimizer` and `data`. `Trainable` is what a model of any other framework fulfils, as long as
its parameters are arrays. The trainer wraps either into a `Task`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import nn

from arignote.config.settings import Settings
from arignote.data.base import Batch, Dataset
from arignote.data.open import open_data
from arignote.models.optimizers import build_optimizer
from arignote.recorder.phases import Recorder


class TrainableData(Protocol):
    """The least a `Trainable`'s data must say: batches of this worker in an epoch."""

    n_batch_train: int
    n_batch_val: int


class Trainable(Protocol):
    """Theano-MPI's model contract.

    Constructed with one dict: `rank`, `size`, `verbose`, `seed`, `batch_size`, `n_epochs`,
    and the specs `data` and `rule`.
    Optional methods: `compile_iter_fns()`, `reset_iter(mode)` before an epoch's training or
    validation, `save(path)` on rank 0 into the folder of each new checkpoint. Optional attribute:
    `samples`, the weight of the last `train_iter` in an average (default: all workers alike).
    Resumed are `params`, and what `state_dict()` returns (plain values and tensors), where the
    model has that and `load_state_dict(state)`: its velocities, say.
    """

    params: Sequence[Any]
    data: TrainableData
    epoch: int
    n_epochs: int

    def train_iter(self, count: int, recorder: Recorder) -> object:
        """Train on this worker's batch number `count` of the epoch; update `params`."""

    def val_iter(self, count: int, recorder: Recorder) -> object:
        """Validate on this worker's validation batch number `count`."""

    def adjust_hyperp(self, epoch: int) -> object:
        """Set the learning rate and the like for `epoch`."""

    def cleanup(self) -> object:
        """The run is over: let go of files and processes."""


class Model:
    """A PyTorch model: a module, a loss, an optimizer and data.

    `defaults` are the settings that the model brings along, keyed as in `--set`; a file or
    the command line may override each. They are read without importing the file, so keep
    them a literal. Before `build` is called, `settings` and `dataset` are set; after it,
    `module` is.
    """

    defaults: ClassVar[Mapping[str, object]] = {}
    best_by: ClassVar[str] = "error"
    """Which number of a validation says that a checkpoint is the best: `error` or `loss`."""
    takes_probabilities: ClassVar[bool] = False
    """Whether a `loss` of its own takes targets (N, classes) too, as `train.mix` makes them."""
    settings: Settings
    dataset: Dataset
    module: nn.Module

    def build(self) -> nn.Module:
        """The module, its weights initialised from torch's global generator.

        Raises:
            NotImplementedError: the subclass does not say.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method build()")

    def loss(self, batch: Batch) -> torch.Tensor:
        """The mean loss of a batch, a scalar: cross entropy of the module's outputs."""
        return nn.functional.cross_entropy(self.module(batch.inputs), batch.targets)

    def optimizer(self, params: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer over `params`: the one that the settings describe."""
        return build_optimizer(self.module, params, self.settings.optimizer)

    def data(self) -> Dataset:
        """The data set: what `run.data` names."""
        return open_data(self.settings.run.data, augment=self.settings.train.augment)
