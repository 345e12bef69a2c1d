"""What the loop trains: one contract over PyTorch models and over Theano-MPI's own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

from arignote.frameworks.base import Replica
from arignote.recorder.phases import Recorder
from arignote.rules.base import Bring


class Task(ABC):
    """A model with its data, as one worker sees them."""

    replica: Replica
    sample_name: str = "images"
    """What a sample is called, in the plural."""
    best_by: str = "error"
    """The number of a validation that is lowest for the best checkpoint; see `Model.best_by`."""
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
    def train(self, epoch: int, consumed: int, part: int, recorder: Recorder) -> Bring:
        """Fetch a batch, run forward and backward; book wait and calc.

        Args:
            consumed: how far the epoch is before the step that the batch belongs to.
            part: which of its parts this worker makes, 0 <= part < workers.
        """

    def foresee(self, epoch: int, consumed: int, part: int) -> None:  # noqa: B027 (most need not)
        """Told before `train`: what this worker will train after that."""

    @abstractmethod
    def after(self, consumed: int, steps: int) -> int:
        """How far the epoch is `steps` steps after `consumed`, in the units of `train_size`."""

    @abstractmethod
    def validate(self, recorder: Recorder, stopping: Callable[[], bool], *, alone: bool) -> None:
        """Run this worker's part of the validation set; the sums go to `recorder`.

        Ends early, its sums being worth nothing, once `stopping()` is true.

        Args:
            alone: the whole of it instead, because no other worker takes part.
        """

    def loading(self) -> dict[str, Any] | None:
        """`loaders`, `restarts` and `seconds` (by stage) of this worker; None: not known."""
        return None

    @abstractmethod
    def data_card(self) -> dict[str, Any]:
        """What a user of the weights must know of the data (`DataCard.as_dict`); may be empty."""

    @abstractmethod
    def saved(self, checkpoint: Path) -> None:
        """On rank 0: a checkpoint was just written; the model may add files of its own to it."""

    @abstractmethod
    def close(self) -> None:
        """The run is over."""
