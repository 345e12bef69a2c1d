"""How a run ended, in one line and an exit code."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

from arignote.config.settings import Launch
from arignote.errors import ArignoteError
from arignote.launch.flavours.base import Death
from arignote.launch.hostcheck.admit import silent_hosts
from arignote.launch.supervise import Outcome
from arignote.recorder.events import read_events
from arignote.recorder.summary import read_summary


def conclude(outcome: Outcome, run_folder: Path, settings: Launch) -> int:
    """Say how the run ended; the exit code."""
    report = outcome.report
    # Of a run that was told to stop, a lost worker is no news; any other error is.
    lost = report is not None and report.expected and report.exit_code == 1
    if report is not None and not (outcome.asked_to_stop and lost):
        raise_report(outcome)
    summary = read_summary(run_folder)
    resume = _resume_hint(run_folder)
    if outcome.asked_to_stop and summary is not None and summary.status == "finished":
        name = signal.Signals(outcome.asked_to_stop).name
        sys.stderr.write(f"arignote: the run was finished when {name} came\n")
        return 0
    if outcome.asked_to_stop:
        saved = summary is not None and summary.status == "stopped"
        name = signal.Signals(outcome.asked_to_stop).name
        what = f", saved at step {summary.steps}" if saved and summary else ""
        sys.stderr.write(f"arignote: stopped by {name}{what}; {resume}\n")
        return 128 + outcome.asked_to_stop
    why = reason(outcome, run_folder, settings)
    if outcome.overdue:
        raise failed(why)
    if outcome.death is not None:
        raise failed(f"{why}; all others were ended; {resume}")
    if summary is not None and summary.status == "finished":
        if outcome.exit_code:
            sys.stderr.write("arignote: the run is finished; what its workers left was ended\n")
        return 0
    if summary is not None and summary.status == "stopped" and not outcome.exit_code:
        sys.stderr.write(f"arignote: the workers were told to stop; {resume}\n")
        return 128 + signal.SIGTERM
    raise failed(f"{why}; {resume}")


def reason(outcome: Outcome, run_folder: Path, settings: Launch) -> str:
    """Why processes ended that were not to end yet, in a line."""
    if outcome.report is not None:
        return outcome.report.message.rstrip().rpartition("\n")[2]
    if outcome.overdue:
        within = f"within {settings.start_timeout_seconds:g} s (launch.start_timeout_seconds)"
        if outcome.late:
            late = ", ".join(outcome.late)
            return f"{late}: the {settings.workers} workers did not come together {within}"
        silent = silent_hosts(settings)
        if silent:
            came = f"the {settings.workers} workers did not come together {within}"
            return f"{'; '.join(silent)}; {came}"
        if settings.hosts:
            doctor = f"`arignote doctor --hosts {','.join(settings.hosts)}`"
        else:
            doctor = "`arignote doctor`, and look at this machine's load"
        return (
            f"not all {settings.workers} workers came to the first meeting {within}: run {doctor}"
        )
    if outcome.death is not None:
        return who(outcome.death, run_folder, settings.workers)
    if outcome.exit_code:
        return f"the launcher ended with code {outcome.exit_code}"
    return "the workers left before the run was finished, without an error"


def _resume_hint(run_folder: Path) -> str:
    """What to type to go on, if anything was saved."""
    if any((run_folder / "checkpoints").glob("step-*")):
        return f"go on with: arignote train --resume {run_folder}"
    return "nothing was saved yet: start again"


def raise_report(outcome: Outcome) -> None:
    """Raise what the worker that failed first reported."""
    assert outcome.report is not None
    if outcome.report.expected:
        error = ArignoteError(outcome.report.message)
    else:
        error = WorkerError(outcome.report.text())
    error.exit_code = outcome.report.exit_code
    raise error


class WorkerError(ArignoteError):
    """An uncaught exception in a worker: its text is a traceback already."""

    exit_code = 1


def failed(message: str) -> ArignoteError:
    """An error of the run, not of the user: exit code 1."""
    error = ArignoteError(message)
    error.exit_code = 1
    return error


def who(death: Death, run_folder: Path | None, workers: int) -> str:
    """`worker 1 (host a, pid 7) was killed by SIGKILL`, as well as it is known.

    Args:
        workers: how many there are; the ranks after them are servers.
    """
    if death.signal is None:
        how = "was killed, or its host or network failed: the connections to it broke"
    else:
        how = f"was killed by {signal.Signals(death.signal).name}"
    if death.launcher:
        return f"the launcher of the workers {how}"
    peers = [peer for peer in _peers(run_folder) if _may_be(death, peer)]
    if len(peers) == 1:
        (peer,) = peers
        kind = peer.get("kind", "worker")
        return f"{kind} {peer['rank']} (host {peer['host']}, pid {peer['pid']}) {how}"
    if death.rank is not None:
        return f"{'worker' if death.rank < workers else 'server'} {death.rank} {how}"
    if death.host is not None:
        those = " or ".join(f"{peer.get('kind', 'worker')} {peer['rank']}" for peer in peers)
        return f"{those or 'a worker'} (host {death.host}) {how}"
    return f"a worker{f' (pid {death.pid})' if death.pid else ''} {how}"


def _peers(run_folder: Path | None) -> list[dict[str, Any]]:
    """Who last started, workers and servers."""
    if run_folder is None:
        return []
    starts = [event for event in read_events(run_folder) if event["event"] == "start"]
    return starts[-1]["peers"] if starts else []


def _may_be(death: Death, peer: dict[str, Any]) -> bool:
    """Whether it can be `peer` that died."""
    if death.rank is not None:
        return bool(death.rank == peer["rank"])
    if death.pid is not None:
        return bool(death.pid == peer["pid"])
    if death.host is not None:
        # MPI may know a host by its whole name, or by the first part of it.
        return bool(death.host.partition(".")[0] == peer["host"].partition(".")[0])
    return True
