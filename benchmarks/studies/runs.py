"""One training in a process of its own, and the file of records to which it adds a line."""

from __future__ import annotations

import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import click
import psutil

from arignote.orphan import die_with_parent
from arignote.recorder.events import read_events
from arignote.recorder.summary import read_summary

_ROOT = Path(__file__).parents[2]
"""Of the working tree."""
_KEPT = (
    "exchange",
    "library",
    "parameters",
    "steps",
    "worker_steps",
    "images_per_second",
    "wire_bytes",
    "exchanges",
    "notes",
    "weights_sha256",
)
_GRACE_SECONDS = 30


class Job(Protocol):
    """One training, a dataclass; two that are equal in all of its fields are made once."""

    def settings(self) -> dict[str, Any]:
        """What is set by --set."""

    def arguments(self, data: str, out: str) -> list[str]:
        """Those of `arignote`."""


class Records:
    """A file of JSON lines, only ever appended to; of one job the newest line counts."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[dict[str, Any]]:
        """The newest record of each job, in the order of the jobs' first."""
        newest: dict[str, dict[str, Any]] = {}
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        for line in lines:
            try:
                record = json.loads(line)
            except ValueError:
                continue  # A crash cut it short.
            newest[json.dumps(record["job"], sort_keys=True)] = record
        return list(newest.values())

    def add(self, record: dict[str, Any]) -> None:
        """Append it; it is on the disk when this returns."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            file.write(json.dumps(record).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def make(
    jobs: Iterable[Any],
    records: Records,
    data: Callable[[], Path],
    *,
    again: bool,
    limit: int | None,
    timeout_seconds: float,
) -> None:
    """Perform what is not recorded yet, one after the other, and say how each ended.

    Args:
        data: the folder that all read; asked for once something is to be done.
        again: also what is recorded as failed.
        limit: so many at most.
    """
    over = [r["job"] for r in records.read() if not again or r["status"] == "finished"]
    left = [job for job in jobs if asdict(job) not in over][:limit]
    if not left:
        return
    folder = data()
    for number, job in enumerate(left, 1):
        click.echo(f"{time.strftime('%H:%M:%S')} {number}/{len(left)} {job}: ", nl=False)
        record = perform(job, folder, timeout_seconds)
        records.add(record)
        if record["status"] == "finished":
            rate, took = record["images_per_second"], record["seconds"]
            click.echo(f"{record['accuracy'][-1]:.2%}, {rate:,.0f} images/s, {took:.0f} s")
        else:
            click.echo("failed: " + record["error"].splitlines()[-1])


def perform(
    job: Any,
    data: Path,
    timeout_seconds: float,
    results: Callable[[Path], dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Train, and say what it came to; a failure is a record too.

    Args:
        results: what is kept of a run's folder; None: accuracy, phases and counts.
    """
    facts = {
        "job": asdict(job),
        "settings": job.settings(),
        "command": "arignote " + shlex.join(job.arguments("DIR", "RUN")),
        "commit": _commit(),
        "machine": machine(),
        "load_before": round(os.getloadavg()[0], 2),
        "begun": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }
    with tempfile.TemporaryDirectory(prefix="arignote-study-") as scratch:
        run, log = Path(scratch, "run"), Path(scratch, "log")
        begun = time.monotonic()
        code = _start(job.arguments(str(data), str(run)), log, timeout_seconds)
        facts["seconds"] = round(time.monotonic() - begun, 2)
        if code != 0:
            said = log.read_text(errors="replace").replace(scratch, "SCRATCH")
            tail = said.replace(str(data), "DIR").replace(str(_ROOT), ".").strip()[-1500:]
            why = f"exit code {code}" if code is not None else f"not done in {timeout_seconds:g} s"
            return {**facts, "status": "failed", "error": f"{why}: {tail}"}
        return {**facts, **(results or _results)(run)}


def _start(arguments: list[str], log: Path, timeout_seconds: float) -> int | None:
    """The exit code; None where time was up."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "arignote", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: die_with_parent(signal.SIGTERM),
        )
        try:
            return process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(_GRACE_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _results(run: Path) -> dict[str, Any]:
    summary = read_summary(run)
    if summary is None or summary.status != "finished":
        return {"status": "failed", "error": "it was stopped before its end"}
    accuracy: dict[int, float] = {}
    top5: dict[int, float] = {}
    losses: dict[int, float] = {}
    apart: dict[int, float] = {}
    epoch = 0
    for event in read_events(run):
        if event["event"] == "epoch":
            epoch = event["epoch"]
            losses[epoch] = event["loss"]
        elif event["event"] == "validation":
            accuracy[epoch] = event["accuracy"]
            top5[epoch] = event["error_top5"]
            if "consensus_distance" in event:
                apart[epoch] = event["consensus_distance"]
    kept = {name: getattr(summary, name) for name in _KEPT}
    return {
        "status": "finished",
        "accuracy": [accuracy.get(e) for e in range(1, epoch + 1)],
        "error_top5": [top5.get(e) for e in range(1, epoch + 1)],
        "training_loss": [losses.get(e) for e in range(1, epoch + 1)],
        "consensus_distance": list(apart.values()),
        "samples": summary.samples,
        "phases": summary.seconds,
        **kept,
    }


def _commit() -> str:
    """Of the working tree, and whether the product has changes on top of it."""

    def git(*arguments: str) -> str:
        line = ["git", "-C", str(_ROOT), *arguments]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    commit = git("rev-parse", "--short=12", "HEAD") or "unknown"
    return commit + ("+changes" if git("status", "--porcelain", "--", "src") else "")


def machine() -> dict[str, Any]:
    """What it ran on, without names."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": len(psutil.Process().cpu_affinity()),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "python": platform.python_version(),
        "torch": version("torch"),
    }
