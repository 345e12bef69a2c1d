"""How a worker tells that it failed: once for the whole run."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading

import pytest

from arignote import failure
from arignote.control import CONTROL_VARIABLE
from arignote.errors import LostWorkerError, UserError
from arignote.failure import Report, describe, read, tell


@pytest.fixture
def control(tmp_path, monkeypatch):
    monkeypatch.setenv(CONTROL_VARIABLE, str(tmp_path))
    return tmp_path


def test_an_error_of_ours_is_one_line():
    report = describe(LostWorkerError("worker 2 did not come"), 1)
    assert report == Report(
        rank=1, host=platform.node(), exit_code=1, message="worker 2 did not come", expected=True
    )
    assert report.text() == "arignote: error: worker 2 did not come"
    assert describe(UserError("x"), 0).exit_code == 2


def test_any_other_is_a_traceback():
    try:
        raise ZeroDivisionError("by zero")
    except ZeroDivisionError as error:
        report = describe(error, 3)
    assert (report.exit_code, report.expected) == (1, False)
    lines = report.text().splitlines()
    assert lines[0] == f"arignote: worker 3 on {platform.node()} failed:"
    assert lines[1].startswith("Traceback")
    assert lines[-1] == "ZeroDivisionError: by zero"


def test_nothing_to_read(tmp_path):
    assert read(tmp_path) is None


def test_what_is_told_is_read(control, capsys):
    report = describe(UserError("Ünï"), 4)
    tell(report)
    assert read(control) == report
    assert [path.name for path in control.iterdir()] == [failure.FAILURE_FILE]
    assert capsys.readouterr() == ("", "")


def test_only_the_first_is_kept(control):
    tell(describe(UserError("first"), 1))
    tell(describe(UserError("second"), 0))
    assert read(control).message == "first"
    assert [path.name for path in control.iterdir()] == [failure.FAILURE_FILE]


def test_many_at_once(control):
    barrier = threading.Barrier(8)

    def work(rank):
        barrier.wait(10)
        tell(describe(UserError(f"from {rank}" * 1000), rank))

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    report = read(control)
    assert report.message == f"from {report.rank}" * 1000
    assert [path.name for path in control.iterdir()] == [failure.FAILURE_FILE]


@pytest.mark.parametrize("folder", [None, "missing"])
def test_without_a_control_folder_it_goes_to_stderr(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv(CONTROL_VARIABLE, raising=False)
    if folder:
        monkeypatch.setenv(CONTROL_VARIABLE, str(tmp_path / folder))
    tell(describe(UserError("no such thing"), 0))
    assert capsys.readouterr() == ("", "arignote: error: no such thing\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("error", "code"), [("UserError", 2), ("LostWorkerError", 1)])
def test_leaving(error, code):
    program = (
        "import atexit, sys\nfrom arignote import errors, failure\n"
        "atexit.register(print, 'never')\nprint('before', end='')\n"
        f"failure.leave(errors.{error}('gone'), 0)"
    )
    environment = {k: v for k, v in os.environ.items() if k != CONTROL_VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert (done.returncode, done.stdout) == (code, "before")
    assert done.stderr == "arignote: error: gone\n"


def test_a_message_that_is_no_valid_unicode(control):
    tell(describe(UserError("no file 'd\udcff'"), 1))
    report = read(control)
    assert report is not None
    assert report.message == "no file 'd\udcff'"
