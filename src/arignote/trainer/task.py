"""What the loop trains: one contract over PyTorch models and over Theano-MPI's own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

from arignote.frameworks.base import Replica
from arignote.recorder.phases import Recorder
from arignote.rules.base import Bring, StepResult


class Task(ABC):
    """A model with its data, as one worker sees them."""

    replica: Replica
    n_epochs: int
    train_size: int
    """What one epoch counts: samples of all workers, or steps where samples are unknown."""
    can_change_workers: bool
    """Whether a run can be resumed in the middle of an epoch with another number of workers."""

    @property
    @abstractmethod
    def learning_rate(self) -> float:
        """The learning rate of the next update (NaN where it is the model's secret)."""

    @abstractmethod
    def start_epoch(self, epoch: int, consumed: int) -> int:
        """Begin `epoch` after `consumed` of its samples; the number of steps that remain."""

    @abstractmethod
    def train(self, epoch: int, consumed: int, recorder: Recorder) -> Bring:
        """Fetch this worker's next batch, run forward and backward; book wait and calc."""

    @abstractmethod
    def consumed(self, result: StepResult) -> int:
        """How far a step has brought the epoch, in the units of `train_size`."""

    @abstractmethod
    def validate(self, recorder: Recorder, stopping: Callable[[], bool]) -> None:
        """Run this worker's part of the validation set; the sums go to `recorder`.

        Ends early, its sums being worth nothing, once `stopping()` is true.
        """

    @abstractmethod
    def saved(self, checkpoint: Path) -> None:
        """On rank 0: a checkpoint was just written; the model may add files of its own to it."""

    @abstractmethod
    def close(self) -> None:
        """The run is over."""
