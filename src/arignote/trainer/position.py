"""How far a run has come: what a checkpoint needs to go on from there."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Position:
    """How far a run has come."""

    epoch: int = 0
    """Epochs completed."""
    consumed: int = 0
    """Of the epoch under way: its samples that all workers have used."""
    steps: int = 0
    """Steps completed since the start of the run."""
    validation: dict[str, float] = field(default_factory=dict)
    """What the last validation came to."""
