"""The launcher's end of `arignote resize`: takes requests, and follows them (`resize.py`)."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path
from typing import Any, Literal

from arignote.config.load import resolve
from arignote.config.settings import Launch, Settings
from arignote.errors import UserError
from arignote.launch.ending import reason
from arignote.launch.resize import ANSWER, ASKED, TAKEN, Answer, Request, read, write_aside
from arignote.launch.supervise import Outcome
from arignote.recorder.display import Display
from arignote.recorder.events import EventLog
from arignote.recorder.summary import read_summary


class _Stage(Enum):
    IDLE = auto()
    LEAVING = auto()
    """The old workers save and leave."""
    COMING = auto()
    """The new ones start."""
    BACK = auto()
    """They could not, and the old number starts."""


class Resizer:
    """The launcher's end: takes requests, and knows with which settings the run goes on.

    Args:
        settings: those that the run is started with.
        display: tells since when the workers train, and shows what is said.
        check: raises a UserError about settings that cannot be started.
    """

    def __init__(
        self,
        run_folder: Path,
        settings: Settings,
        display: Display,
        check: Callable[[Settings], object],
    ) -> None:
        self.settings = settings
        """With which the workers that run now were started, or are to be."""
        self._run_folder = run_folder
        self._display = display
        self._check = check
        self._stage = _Stage.IDLE
        self._request = Request(id="", launch={})
        self._other = settings
        """Those to come while the old workers leave, those to go back to while new ones come."""
        self._problem = ""
        self._asked_at = 0.0

    def must_leave(self) -> bool:
        """Whether the workers are to save and leave now; asked many times a second."""
        self._settle()
        begun = self._display.begun
        if begun is None or self._stage is not _Stage.IDLE or not self._take():
            return False
        try:
            self._other = self._merged(begun)
        except (UserError, OSError) as error:
            # The second: a folder or program that is gone must cost the request, not the run.
            self._answer("refused", str(error))
            return False
        self._stage, self._asked_at = _Stage.LEAVING, time.monotonic()
        self._say(f"{self._change(self.settings, self._other)}, as soon as this step is saved")
        return True

    def goes_on(self, outcome: Outcome) -> bool:
        """Whether the run, whose processes have left, is to be started again.

        The bad stories this tells apart:
        1. The workers were asked to leave but had just finished: the run is over.
        2. Ctrl-C came while they saved: the run is stopped.
        3. A worker died while they saved: the run has failed.
        4. The new workers came to their first step, and died right then: the run has failed too.
        5. The new workers did not come that far: what the run had before is started, once.
        """
        self._settle()
        summary = read_summary(self._run_folder)
        if outcome.asked_to_stop:
            return False
        if self._stage is _Stage.LEAVING and summary is not None and summary.status == "stopped":
            self._stage = _Stage.COMING
        elif self._stage is _Stage.COMING:
            self._stage = _Stage.BACK
            if outcome.report is not None:
                self._display.line(outcome.report.text(), error=True)
            why = reason(outcome, self._run_folder, self.settings.launch)
            self._problem = f"{_workers(self.settings.launch)} did not come to train: {why}"
            self._say(f"{self._problem}; back to {_workers(self._other.launch)}")
        else:
            return False
        self.settings, self._other = self._other, self.settings
        log = EventLog(self._run_folder)
        log.write(
            "resize",
            before=self._other.launch.workers,
            workers=self.settings.launch.workers,
            problem=self._problem,
        )
        log.close()
        return True

    def _take(self) -> bool:
        """Take what is asked, so that it can no longer be withdrawn; whether there is any."""
        try:
            (self._run_folder / ASKED).rename(self._run_folder / TAKEN)
        except OSError:
            return False
        request = read(self._run_folder / TAKEN, Request)
        if request is None:
            (self._run_folder / TAKEN).unlink(missing_ok=True)
            return False
        self._request = request
        return True

    def _merged(self, begun: dict[str, Any]) -> Settings:
        """The settings with what is asked.

        Raises:
            UserError: the run cannot go on with them.
        """
        before = self.settings.model_dump(exclude_none=True)
        merged = resolve([("", before), ("", {"launch": self._request.launch})])
        count, now, samples = merged.launch.workers, self.settings.launch, begun["train_size"]
        if merged.launch == now:
            raise UserError(f"it has {_workers(now)} already, and nothing else would change")
        if count != now.workers and not begun["can_change_workers"]:
            raise UserError(
                "its model shares out its data itself, so their number cannot change in the middle "
                f"of an epoch: it goes on with {_workers(now)}"
            )
        if count > samples:
            raise UserError(
                f"{count} workers but only {samples} training samples: use at most -n {samples}"
            )
        self._check(merged)
        return merged

    def _settle(self) -> None:
        """Answer, once the workers that were waited for train."""
        begun = self._display.begun
        if begun is None or self._stage not in (_Stage.COMING, _Stage.BACK):
            return
        back, self._stage = self._stage is _Stage.BACK, _Stage.IDLE
        paused = f"paused for {time.monotonic() - self._asked_at:.1f} s"
        if back:
            said = f"{self._problem}; it goes on with {_workers(self.settings.launch)}, {paused}"
            self._answer("failed", said)
        else:
            change = self._change(self._other, self.settings)
            self._answer("resized", f"{change} at step {begun['steps']}, {paused}")
        self._problem = ""

    def _answer(self, status: Literal["resized", "refused", "failed"], message: str) -> None:
        answer = Answer(id=self._request.id, status=status, message=message)
        self._say(message if status == "resized" else f"{status}: {message}")
        # A full disk costs the answer, not the run.
        with suppress(OSError):
            write_aside(self._run_folder / ANSWER, answer).replace(self._run_folder / ANSWER)
        (self._run_folder / TAKEN).unlink(missing_ok=True)

    def _say(self, text: str) -> None:
        self._display.line(f"resize: {text}", error=False)

    @staticmethod
    def _change(before: Settings, after: Settings) -> str:
        """`2 -> 4 workers`; where only their places change, `4 workers elsewhere`."""
        old, new = before.launch.workers, after.launch
        return f"{_workers(new)} elsewhere" if old == new.workers else f"{old} -> {_workers(new)}"


def _workers(launch: Launch) -> str:
    return f"{launch.workers} worker" if launch.workers == 1 else f"{launch.workers} workers"
