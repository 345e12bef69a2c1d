"""Workers join and leave while a run goes on: `arignote resize` asks, the run's launcher follows.

1. `arignote resize` leaves a request in the run's folder: what changes in [launch].
2. The launcher takes it, and either refuses it, which disturbs nobody, or lets the workers finish
   their step, save and leave, as SIGUSR1 does.
3. It starts the run again from that checkpoint with what was asked. Where that fails before
   anything was trained, it goes back to what the run had, once.
4. It answers once the workers train, and `arignote resize` says so.

Here: what travels between the two, and the end of `arignote resize`. The launcher's: `resizer.py`.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from arignote.errors import UserError
from arignote.launch.ending import failed
from arignote.launch.lock import has_launcher
from arignote.recorder.summary import read_summary

ASKED, TAKEN, ANSWER = ".resize-asked.json", ".resize-taken.json", ".resize-answer.json"
"""In the run's folder: asked for, taken by the launcher (by renaming it), what came of it."""

_POLL_SECONDS = 0.1


class Request(BaseModel):
    """What `arignote resize` asks for."""

    model_config = ConfigDict(extra="forbid")

    id: str
    launch: dict[str, Any]
    """The settings of [launch] that change."""


class Answer(BaseModel):
    """What came of the request with this id, in words."""

    model_config = ConfigDict(extra="forbid")

    id: str
    status: Literal["resized", "refused", "failed"]
    message: str


M = TypeVar("M", bound=BaseModel)


def read(path: Path, kind: type[M]) -> M | None:
    """What the file holds; None if there is none, or nothing that makes sense."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def write_aside(path: Path, content: BaseModel) -> Path:
    """A file beside `path` that can be moved there whole."""
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    temporary.write_text(json.dumps(content.model_dump()), encoding="utf-8")
    return temporary


def ask(run_folder: Path, launch: dict[str, Any], *, timeout_seconds: float) -> str:
    """Ask a run's launcher to go on with other settings in [launch]; what came of it, in a line.

    Raises:
        UserError: the run is not running, another request is under way, or it was refused.
        ArignoteError: the run was not resized in time, ended before, or went back.
    """
    if not has_launcher(run_folder):
        count = launch.get("workers", "N")
        raise UserError(
            f"{run_folder} is not running: use arignote train --resume {run_folder} -n {count}"
        )
    request = Request(id=uuid.uuid4().hex, launch=launch)
    _post(run_folder, request)
    try:
        answer = _wait(run_folder, request, timeout_seconds)
    finally:
        _withdraw(run_folder, request)
    if answer.status == "refused":
        raise UserError(f"{run_folder} was not resized: {answer.message}")
    if answer.status == "failed":
        raise failed(f"{run_folder} was not resized: {answer.message}")
    return f"{run_folder}: {answer.message}"


def _post(run_folder: Path, request: Request) -> None:
    """Put the request where the launcher looks, unless another one is there."""
    try:
        temporary = write_aside(run_folder / ASKED, request)
        try:
            if (run_folder / TAKEN).exists():
                raise FileExistsError
            # Claimed by exactly one, and whole from the start.
            os.link(temporary, run_folder / ASKED)
        finally:
            temporary.unlink()
    except FileExistsError:
        raise UserError(f"{run_folder} is being resized already: wait until that is over") from None
    except OSError as error:
        raise UserError(f"run folder {run_folder} cannot be written: {error.strerror}") from None


def _withdraw(run_folder: Path, request: Request) -> bool:
    """Take the request back; whether that was possible: the launcher may have taken it."""
    left = read(run_folder / ASKED, Request)
    if left is None or left.id != request.id:
        return False
    with suppress(FileNotFoundError):
        (run_folder / ASKED).unlink()
        return True
    return False


def _wait(run_folder: Path, request: Request, timeout_seconds: float) -> Answer:
    deadline = time.monotonic() + timeout_seconds
    while True:
        # Asked first: the launcher answers before it lets go of the lock.
        alive = has_launcher(run_folder)
        answer = read(run_folder / ANSWER, Answer)
        if answer is not None and answer.id == request.id:
            (run_folder / ANSWER).unlink(missing_ok=True)
            return answer
        if not alive:
            raise failed(f"{run_folder} was not resized: {_how_it_ended(run_folder)}")
        if time.monotonic() > deadline:
            if _withdraw(run_folder, request):
                what = "its launcher took no notice, and the request is withdrawn"
            else:
                what = "its workers are being changed; its own terminal will say how that ends"
            raise failed(f"{run_folder} was not resized within {timeout_seconds:g} s: {what}")
        time.sleep(_POLL_SECONDS)


def _how_it_ended(run_folder: Path) -> str:
    summary = read_summary(run_folder)
    if summary is None:
        return "the run ended; its own terminal says why"
    return f"the run {'is' if summary.status == 'finished' else 'was'} {summary.status}" + (
        f" at step {summary.steps}"
    )


def forget_requests(run_folder: Path) -> None:
    """Remove what was left by a launcher that was killed."""
    for name in (ASKED, TAKEN, ANSWER):
        (run_folder / name).unlink(missing_ok=True)
