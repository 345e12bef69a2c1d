"""Watch over the processes of a run: show what they say, stop them, leave nothing behind."""

from __future__ import annotations

import math
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Protocol

import psutil

from arignote import control, failure
from arignote.launch.flavours.base import Death, Flavour
from arignote.launch.late import latecomers
from arignote.launch.segments import NotedSegments, remove_left
from arignote.orphan import die_with_parent

_POLL_SECONDS = 0.05
_AFTER_FAILURE_SECONDS = 3.0
_AFTER_END_SECONDS = 30.0
_LOOK_SECONDS = 0.5
_TERMINATE_SECONDS = 1.5


class Screen(Protocol):
    """Where a run is shown."""

    def line(self, text: str, *, error: bool) -> None:
        """A line that a worker printed."""

    def refresh(self) -> None:
        """Called many times a second while the run goes on."""


@dataclass
class Outcome:
    """How a run of processes ended."""

    exit_code: int
    asked_to_stop: int = 0
    """The signal that the launcher was sent; 0: none."""
    report: failure.Report | None = None
    """What the worker that failed first has to say."""
    death: Death | None = None
    """A process that was killed from outside."""
    overdue: bool = False
    """The workers did not come to their first meeting in time."""
    late: tuple[str, ...] = ()
    """Then: who kept the others waiting, where that could be seen."""


@contextmanager
def stop_signals(asked: list[int]) -> Iterator[None]:
    """Note the signals that ask for an end, instead of ending (in the main thread)."""
    numbers: tuple[int, ...] = ()
    if threading.current_thread() is threading.main_thread():
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)

    def ask(number: int, frame: FrameType | None) -> None:
        asked.append(number)

    handlers = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


class Supervisor:
    """Runs one command line of a flavour to its end.

    Args:
        graceful: the workers save and leave on SIGUSR1; otherwise they are just ended.
        start_timeout_seconds: how long the workers may take to meet: a graceful run from its
            start, any other from the moment a worker begins to join.
        started, ended: what the run's events say of that, and of its end.
        must_leave: whether the workers are to save and leave though nobody asked for an end.
        asked: the signals that asked for one, where `stop_signals` began to listen before.
    """

    def __init__(
        self,
        flavour: Flavour,
        screen: Screen,
        *,
        graceful: bool,
        grace_seconds: float,
        start_timeout_seconds: float = math.inf,
        started: Callable[[], bool] = lambda: False,
        ended: Callable[[], bool] = lambda: False,
        must_leave: Callable[[], bool] = lambda: False,
        asked: list[int] | None = None,
    ) -> None:
        self._flavour = flavour
        self._screen = screen
        self._graceful = graceful
        self._grace_seconds = grace_seconds
        self._start_timeout_seconds = start_timeout_seconds
        self._started = started
        self._ended = ended
        self._must_leave = must_leave
        self._asked: list[int] = [] if asked is None else asked
        self._noise: list[str] = []
        self._told: list[str] = []
        """What workers of hosts that do not see the control folder say of their failure."""
        self._family: dict[int, psutil.Process] = {}
        self._look_again = 0.0

    def run(self, argv: list[str], environment: dict[str, str]) -> Outcome:
        """Start `argv`, watch it, and return once nothing of it is left."""
        with (
            stop_signals(self._asked),
            tempfile.TemporaryDirectory(prefix="arignote-") as folder,
            NotedSegments(Path(folder)) as self._segments,
        ):
            remove_left(Path(folder).parent)
            environment = environment | {control.CONTROL_VARIABLE: folder}
            return self._run(argv, environment, Path(folder))

    def _run(self, argv: list[str], environment: dict[str, str], folder: Path) -> Outcome:
        process = subprocess.Popen(
            argv,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Its own session: a Ctrl-C in the terminal reaches only us, and we decide.
            start_new_session=True,
            preexec_fn=lambda: die_with_parent(signal.SIGTERM),
        )
        assert process.stdout is not None
        assert process.stderr is not None
        pumps = [
            threading.Thread(target=self._pump, args=(process.stdout, False), daemon=True),
            threading.Thread(target=self._pump, args=(process.stderr, True), daemon=True),
        ]
        for pump in pumps:
            pump.start()
        overdue = False
        late: list[str] = []
        try:
            overdue = self._watch(process, folder)
            if overdue:
                late = latecomers(self._family.values(), folder)
        finally:
            by_itself = process.poll() is not None
            self._end_all(process)
        for pump in pumps:
            pump.join(timeout=2)
        self._screen.refresh()
        outcome = self._outcome(process.returncode, failure.read(folder), overdue, by_itself)
        outcome.late = tuple(late)
        return outcome

    def _watch(self, process: subprocess.Popen[bytes], folder: Path) -> bool:
        """Until the process ends, or must be ended; whether the workers never met."""
        begun = time.monotonic() if self._graceful else float("inf")
        forwarded, deadline, met = 0, float("inf"), False
        while process.poll() is None:
            time.sleep(_POLL_SECONDS)
            now = time.monotonic()
            self._screen.refresh()
            if now >= self._look_again:
                # Not at every turn: it reads all of /proc, on cores that the workers need.
                self._look_again = now + _LOOK_SECONDS
                self._note_family(process)
            met = met or (folder / control.MET).exists() or self._started()
            if len(self._asked) > forwarded:
                if forwarded:
                    return False
                forwarded = len(self._asked)
                deadline = min(deadline, now + self._forward(process, met=met))
            if not self._asked and self._must_leave():
                # Without a deadline: nobody is in a hurry, and a worker that hangs is named.
                process.send_signal(signal.SIGUSR1)
            if (folder / failure.FAILURE_FILE).exists():
                # Given the launcher's own clean-up does not get on with a stopped process.
                deadline = min(deadline, now + _AFTER_FAILURE_SECONDS)
            if self._ended():
                # A thread of the user's, or a worker stopped at its very end, would stay.
                deadline = min(deadline, now + _AFTER_END_SECONDS)
            if now > deadline:
                return False
            if (folder / control.JOINING).exists():
                begun = min(begun, now)
            if not met and now - begun > self._start_timeout_seconds:
                return True
        return False

    def _forward(self, process: subprocess.Popen[bytes], *, met: bool) -> float:
        """Tell the workers to stop; how long they may take."""
        if not (self._graceful and met):
            return 0.0
        process.send_signal(signal.SIGUSR1)
        return self._grace_seconds

    def _note_family(self, process: subprocess.Popen[bytes]) -> None:
        """Remember all descendants by name and birth: some outlive the one in between."""
        with suppress(psutil.Error):
            for child in psutil.Process(process.pid).children(recursive=True):
                self._family.setdefault(child.pid, child)
        self._segments.note(self._family)

    def _end_all(self, process: subprocess.Popen[bytes]) -> None:
        """End what is left: ask mpirun first (it reaches other hosts), then kill each."""
        self._note_family(process)
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_TERMINATE_SECONDS)
        left = [child for child in self._family.values() if child.is_running()]
        for child in left:
            with suppress(psutil.Error):
                child.kill()
        if process.poll() is None:
            process.kill()
        process.wait()
        psutil.wait_procs(left, timeout=2)
        self._segments.remove()

    def _pump(self, stream: IO[bytes], error: bool) -> None:
        with stream:
            self._sift(stream, error)

    def _sift(self, stream: Iterable[bytes], error: bool) -> None:
        """Show lines as they come, and hold back what may be the launcher's."""
        held: list[str] = []
        sifted = error or self._flavour.noise_on_stdout
        for raw in stream:
            # Open MPI closes what an aborting worker says with a zero byte.
            text = raw.decode(errors="replace").rstrip("\n").strip("\0")
            if sifted and (held or self._flavour.starts_noise(text)):
                held.append(text)
                while held and self._flavour.ends_noise(held):
                    held = self._sort_out(held, error)
            elif error and text.startswith(failure.TOLD):
                self._told.append(text)
            elif text.strip() or not error:
                self._screen.line(text, error=error)
        while held:
            held = self._sort_out(held, error)

    def _sort_out(self, lines: list[str], error: bool) -> list[str]:
        """Keep a launcher's message for later; show what only looked like one.

        Returns what may begin another: a user's ruler may stand right before the message.
        """
        if self._flavour.is_noise(lines):
            self._noise += lines
            return []
        again = lines[-1:] if len(lines) > 1 and self._flavour.starts_noise(lines[-1]) else []
        for line in lines[: len(lines) - len(again)]:
            self._screen.line(line, error=error)
        return again

    def _outcome(
        self, returncode: int, report: failure.Report | None, overdue: bool, by_itself: bool
    ) -> Outcome:
        noise = "\n".join(self._noise)
        death = self._flavour.death(noise)
        # Not where we have killed it, because a finished run did not leave in time.
        if death is None and returncode < 0 and by_itself and not self._asked:
            death = Death(-returncode, launcher=self._flavour.has_launcher)
        asked = self._asked[0] if self._asked else 0
        # All may say the same, and one of them where we look.
        for line in dict.fromkeys(self._told):
            if report is None or line != report.text():
                self._screen.line(line, error=True)
        if returncode and not (asked or report or death or overdue):
            # A message that we do not understand is better than none.
            for line in self._noise:
                self._screen.line(line, error=True)
        return Outcome(returncode, asked, report, death, overdue)
