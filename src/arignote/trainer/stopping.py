"""Being told to stop: a signal sets a flag, the next step carries it to all workers."""

from __future__ import annotations

import signal
from dataclasses import replace
from types import FrameType

from arignote.rules.base import Bring


class StopFlag:
    """Set by SIGTERM or SIGUSR1; Ctrl-C is the launcher's to turn into one of them."""

    def __init__(self) -> None:
        self.is_set = False

    def install(self) -> None:
        """Take over the signals (main thread only)."""
        signal.signal(signal.SIGTERM, self._set)
        signal.signal(signal.SIGUSR1, self._set)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _set(self, number: int, frame: FrameType | None) -> None:
        self.is_set = True

    def add_to(self, bring: Bring) -> Bring:
        """`bring`, with the wish to stop."""
        return replace(bring, stop=True) if self.is_set else bring
