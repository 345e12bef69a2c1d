"""A user's script that is no run."""

from __future__ import annotations

import sys

import pytest

from arignote.config.settings import Launch
from arignote.errors import ArignoteError
from arignote.launch.script import run_script


def run(tmp_path, text, *arguments):
    script = tmp_path / "script.py"
    script.write_text(text)
    return run_script(Launch(), [sys.executable, str(script), *arguments])


def test_output_and_exit_code_pass(tmp_path, capsys):
    text = "import sys; print(sys.argv[1:]); print('e', file=sys.stderr); sys.exit(5)"
    assert run(tmp_path, text, "a", "-n") == 5
    assert capsys.readouterr() == ("['a', '-n']\n", "e\n")


def test_a_killed_script(tmp_path):
    with pytest.raises(ArignoteError, match=r"^a worker was killed by SIGKILL; all others wer"):
        run(tmp_path, "import os; os.kill(os.getpid(), 9)")


def test_a_report(tmp_path):
    text = (
        "from arignote import failure\nfrom arignote.errors import UserError\n"
        "failure.leave(UserError('no such thing'), 0)"
    )
    with pytest.raises(ArignoteError, match=r"^no such thing$") as caught:
        run(tmp_path, text)
    assert caught.value.exit_code == 2
