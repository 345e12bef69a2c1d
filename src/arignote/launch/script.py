"""A user's own script, or a bench, as all workers: nothing of a run's folder or display."""

from __future__ import annotations

import sys

from arignote.config.settings import Launch
from arignote.launch.ending import failed, raise_report, who
from arignote.launch.hostcheck.admit import admit_hosts
from arignote.launch.prepare import prepare
from arignote.launch.supervise import Supervisor


class _Plain:
    """A screen that passes lines on."""

    def line(self, text: str, *, error: bool) -> None:
        (sys.stderr if error else sys.stdout).write(text + "\n")

    def refresh(self) -> None:
        sys.stdout.flush()


def run_script(settings: Launch, command: list[str]) -> int:
    """Start a user's script as all workers; the exit code.

    Raises:
        ArignoteError: a worker failed.
    """
    launched = prepare(settings, command)
    admit_hosts(settings, launched.forwarded)
    supervisor = Supervisor(
        launched.flavour,
        _Plain(),
        graceful=False,
        grace_seconds=settings.grace_seconds,
        start_timeout_seconds=settings.start_timeout_seconds,
    )
    outcome = supervisor.run(launched.argv, launched.environment)
    if outcome.asked_to_stop:
        return 128 + outcome.asked_to_stop
    if outcome.report is not None:
        raise_report(outcome)
    if outcome.overdue:
        raise failed(
            f"not all {settings.workers} workers joined within "
            f"{settings.start_timeout_seconds:g} s of the first (launch.start_timeout_seconds): "
            + (", ".join(outcome.late) or "one left before arignote.attach, or never got there")
        )
    if outcome.death is not None:
        raise failed(f"{who(outcome.death, None, settings.workers)}; all others were ended")
    return outcome.exit_code
