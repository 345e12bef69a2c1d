"""How a worker tells that it failed: once for the whole run, with its rank and host.

The bad story this prevents:
1. worker 1 raises; an ordinary exit would let it sit in MPI_Finalize,
2. workers 0 and 2 wait for it in the next round, for ever,
3. or all of them raise the same error and the user reads it three times.

So the first worker to fail claims a file in the launcher's control folder and writes its
report there (the launcher prints it, once); then it leaves the hard way, with `os._exit`,
which makes mpirun end the others. On a host that does not see the control folder the
report goes to stderr.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import traceback
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from arignote import control
from arignote.errors import ArignoteError, ForeignError

FAILURE_FILE = "failure.json"
TOLD = "arignote: error: "
"""Begins what a user reads of an error of ours."""


class Report(BaseModel):
    """What the launcher prints about the worker that failed first."""

    model_config = ConfigDict(extra="forbid")

    rank: int
    host: str
    exit_code: int
    message: str
    """One line for an error of ours, else the whole traceback."""
    expected: bool
    """True: an error of ours, one line. False: an uncaught one, with its traceback."""

    def text(self) -> str:
        """What the user reads."""
        if self.expected:
            return f"{TOLD}{self.message}"
        return f"arignote: worker {self.rank} on {self.host} failed:\n{self.message.rstrip()}"


def describe(error: BaseException, rank: int) -> Report:
    """The report for `error` raised on worker `rank`."""
    expected = isinstance(error, ArignoteError)
    # A traceback of another process says all; where it arrived here says nothing.
    one_text = expected or isinstance(error, ForeignError)
    message = str(error) if one_text else "".join(traceback.format_exception(error))
    code = error.exit_code if isinstance(error, ArignoteError) else 1
    return Report(
        rank=rank, host=platform.node(), exit_code=code, message=message, expected=expected
    )


def tell(report: Report) -> None:
    """Write `report` where the launcher looks; to stderr where there is no launcher to see it."""
    folder = control.folder()
    if folder is None:
        sys.stderr.write(report.text() + "\n")
        return
    own = folder / f"failure-{report.rank}.tmp"
    try:
        # Escaped as JSON can: a message may hold a file name that is no valid Unicode.
        own.write_text(json.dumps(report.model_dump()))
        # A hard link is claimed by exactly one, and its content is whole from the start.
        os.link(own, folder / FAILURE_FILE)
    except FileExistsError:
        return
    except OSError:
        # A full disk, or the launcher has gone: then here, rather than nowhere.
        sys.stderr.write(report.text() + "\n")
    finally:
        own.unlink(missing_ok=True)


def leave(error: BaseException, rank: int) -> None:
    """Report `error` and end this process at once, with nobody left waiting for it."""
    report = describe(error, rank)
    try:
        tell(report)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(report.exit_code)


def read(folder: Path) -> Report | None:
    """The report that a worker left in the control folder, or None."""
    path = folder / FAILURE_FILE
    if not path.exists():
        return None
    return Report(**json.loads(path.read_text()))
