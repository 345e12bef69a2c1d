"""Parts of a global batch that follow the workers' measured speed.

Workers that keep step all wait for the slowest. With parts as large as each can do in the same
time, s_i samples a second of worker i give it the share

    share_i = s_i / sum_j s_j,    never much below a quarter of an equal one

of every global batch. The mean over workers weighs each by its samples, so the update stays that
of the global batch. Measured anew every few steps, and averaged with what was: one slow step
(another job, a page fault) must not turn everything over.
"""

from __future__ import annotations

from collections.abc import Sequence

from arignote.comm.base import World

_EVERY_STEPS = 10
_LEAST = 0.25


def new_shares(old: Sequence[float], speeds: Sequence[float]) -> list[float]:
    """The shares to go on with, their sum 1; a speed of 0 is one that could not be measured."""
    known = [speed for speed in speeds if speed > 0]
    if not known:
        return list(old)
    usual = sum(known) / len(known)
    speeds = [speed if speed > 0 else usual for speed in speeds]
    measured = [speed / sum(speeds) for speed in speeds]
    mixed = [(a + b) / 2 for a, b in zip(old, measured, strict=True)]
    least = _LEAST / len(mixed)
    raised = [max(share, least) for share in mixed]
    return [share / sum(raised) for share in raised]


class Balance:
    """The shares of all workers of a world; the same on each."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.shares = [1 / world.size] * world.size
        self._samples, self._seconds, self._steps = 0, 0.0, 0

    def note(self, samples: int, seconds: float) -> None:
        """A step of this worker; every few of them all meet to measure anew."""
        self._samples += samples
        self._seconds += seconds
        self._steps += 1
        if self._steps % _EVERY_STEPS == 0:
            speeds = [0.0] * self._world.size
            speeds[self._world.rank] = self._samples / self._seconds if self._seconds else 0.0
            everybodys = self._world.meet(speeds, "the measuring of the workers' speed")
            self.shares = new_shares(self.shares, everybodys.tolist())
            self._samples, self._seconds = 0, 0.0
