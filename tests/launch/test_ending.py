"""How a run's end is told."""

from __future__ import annotations

import signal

import pytest

from arignote.config.settings import Launch
from arignote.errors import ArignoteError
from arignote.failure import Report
from arignote.launch.ending import WorkerError, conclude, reason
from arignote.launch.flavours.base import Death
from arignote.launch.supervise import Outcome
from arignote.recorder.events import EventLog
from arignote.recorder.summary import SUMMARY_FILE, Summary


def write_summary(folder, status):
    summary = Summary(
        status=status,
        model="m",
        data="d",
        rule="bsp",
        exchange="allreduce:fp32",
        library="none",
        parameters=1,
        workers=1,
        steps=7,
        epochs=1,
        samples=1,
        images_per_second=1.0,
        seconds={},
        wire_bytes=0,
        metrics={},
        weights_sha256="0",
    )
    (folder / SUMMARY_FILE).write_text(summary.model_dump_json())


def test_workers_that_just_left(tmp_path):
    message = failed(Outcome(0), tmp_path)
    assert message.startswith("the workers left before the run was finished, without an error;")


def test_what_stayed_after_the_end(tmp_path, capsys):
    write_summary(tmp_path, "finished")
    assert conclude(Outcome(-15), tmp_path, Launch()) == 0
    assert "the run is finished; what its workers left was ended" in capsys.readouterr().err


def test_an_error_while_stopping_is_told(tmp_path):
    report = Report(rank=1, host="a", exit_code=1, message="Traceback ...\nX", expected=False)
    with pytest.raises(WorkerError, match="X"):
        conclude(Outcome(1, asked_to_stop=signal.SIGTERM, report=report), tmp_path, Launch())


def test_a_good_end(tmp_path, capsys):
    write_summary(tmp_path, "finished")
    assert conclude(Outcome(0), tmp_path, Launch()) == 0
    assert capsys.readouterr() == ("", "")


def test_a_stop_that_came_when_all_was_done(tmp_path, capsys):
    write_summary(tmp_path, "finished")
    assert conclude(Outcome(0, asked_to_stop=signal.SIGTERM), tmp_path, Launch()) == 0
    assert capsys.readouterr().err == "arignote: the run was finished when SIGTERM came\n"


def save(folder):
    """As if a checkpoint had been written."""
    (folder / "checkpoints/step-00000007").mkdir(parents=True)


def test_a_stop_that_saved(tmp_path, capsys):
    save(tmp_path)
    write_summary(tmp_path, "stopped")
    assert conclude(Outcome(0, asked_to_stop=signal.SIGINT), tmp_path, Launch()) == 130
    assert capsys.readouterr().err == (
        "arignote: stopped by SIGINT, saved at step 7; go on with: "
        f"arignote train --resume {tmp_path}\n"
    )


def test_a_stop_that_did_not(tmp_path, capsys):
    report = Report(rank=0, host="a", exit_code=1, message="lost", expected=True)
    outcome = Outcome(-15, asked_to_stop=signal.SIGTERM, report=report)
    assert conclude(outcome, tmp_path, Launch()) == 143
    assert "stopped by SIGTERM; nothing was saved yet: start again" in capsys.readouterr().err
    save(tmp_path)
    assert conclude(outcome, tmp_path, Launch()) == 143
    assert "stopped by SIGTERM; go on with: arignote train --resume" in capsys.readouterr().err


def test_workers_that_were_told_by_somebody_else(tmp_path, capsys):
    write_summary(tmp_path, "stopped")
    save(tmp_path)
    assert conclude(Outcome(0), tmp_path, Launch()) == 143
    assert "arignote: the workers were told to stop; go on with: " in capsys.readouterr().err


@pytest.mark.parametrize("code", [1, 2])
def test_a_reported_error_of_ours(tmp_path, code):
    report = Report(rank=1, host="a", exit_code=code, message="no file 'x'", expected=True)
    with pytest.raises(ArignoteError) as caught:
        conclude(Outcome(9, report=report, death=Death(9)), tmp_path, Launch())
    assert (str(caught.value), caught.value.exit_code) == ("no file 'x'", code)
    assert ArignoteError.exit_code == 2


def test_a_reported_traceback(tmp_path):
    report = Report(rank=1, host="a", exit_code=1, message="Traceback ...\nX", expected=False)
    with pytest.raises(WorkerError) as caught:
        conclude(Outcome(1, report=report), tmp_path, Launch())
    assert str(caught.value) == "arignote: worker 1 on a failed:\nTraceback ...\nX"
    assert caught.value.exit_code == 1


def failed(outcome, folder, launch=None):
    with pytest.raises(ArignoteError) as caught:
        conclude(outcome, folder, launch or Launch())
    assert caught.value.exit_code == 1
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_workers_that_did_not_meet(tmp_path):
    outcome = Outcome(-15, death=Death(15), overdue=True)
    message = failed(outcome, tmp_path, Launch(workers=3, start_timeout_seconds=2.5))
    assert message.startswith(
        "not all 3 workers came to the first meeting within 2.5 s (launch.start_timeout_seconds): "
        "run `arignote doctor`, and look at this machine's load"
    )
    outcome.late = ("worker 1 (pid 7) is stopped", "worker 2 (pid 8) has not begun to join")
    message = failed(outcome, tmp_path, Launch(workers=3, start_timeout_seconds=2.5))
    assert message == (
        "worker 1 (pid 7) is stopped, worker 2 (pid 8) has not begun to join: the 3 workers did "
        "not come together within 2.5 s (launch.start_timeout_seconds)"
    )


def test_a_launcher_that_failed(tmp_path):
    assert failed(Outcome(213), tmp_path) == (
        "the launcher ended with code 213; nothing was saved yet: start again"
    )


@pytest.mark.parametrize(
    ("outcome", "message"),
    [
        (Outcome(1, death=Death(9, rank=0)), "worker 0 was killed by SIGKILL"),
        (Outcome(255), "the launcher ended with code 255"),
        (Outcome(-15, overdue=True), "not all 1 workers came to the first meeting within 300 s"),
        (Outcome(0), "the workers left before the run was finished, without an error"),
    ],
)
def test_the_reason_in_a_line(tmp_path, outcome, message):
    assert reason(outcome, tmp_path, Launch()).startswith(message)


def test_the_reason_that_a_worker_gives(tmp_path):
    report = Report(rank=1, host="a", exit_code=1, message="Traceback ...\nX: y\n", expected=False)
    assert reason(Outcome(1, report=report), tmp_path, Launch()) == "X: y"


BROKE = "was killed, or its host or network failed: the connections to it broke"
SERVER = {"rank": 2, "host": "b", "pid": 72, "kind": "server"}
PEERS = [{"rank": 0, "host": "a", "pid": 70}, {"rank": 1, "host": "b", "pid": 71}]


@pytest.mark.parametrize(
    ("peers", "death", "who"),
    [
        (None, Death(9), "a worker was killed by SIGKILL"),
        (None, Death(9, pid=71), "a worker (pid 71) was killed by SIGKILL"),
        (None, Death(15, rank=1), "worker 1 was killed by SIGTERM"),
        (None, Death(9, rank=2), "server 2 was killed by SIGKILL"),
        (PEERS, Death(9, rank=1), "worker 1 (host b, pid 71) was killed by SIGKILL"),
        (PEERS, Death(11, pid=70), "worker 0 (host a, pid 70) was killed by SIGSEGV"),
        (PEERS, Death(9, pid=99), "a worker (pid 99) was killed by SIGKILL"),
        (PEERS, Death(9), "a worker was killed by SIGKILL"),
        (PEERS, Death(9, launcher=True), "the launcher of the workers was killed by SIGKILL"),
        (PEERS[:1], Death(9), "worker 0 (host a, pid 70) was killed by SIGKILL"),
        (PEERS[:1], Death(9, pid=99), "a worker (pid 99) was killed by SIGKILL"),
        (PEERS, Death(None, host="b.site"), f"worker 1 (host b, pid 71) {BROKE}"),
        (PEERS, Death(None, host="c"), f"a worker (host c) {BROKE}"),
        (None, Death(None, host="b"), f"a worker (host b) {BROKE}"),
        ([*PEERS, SERVER], Death(9, rank=2), "server 2 (host b, pid 72) was killed by SIGKILL"),
        ([*PEERS, SERVER], Death(None, host="b"), f"worker 1 or server 2 (host b) {BROKE}"),
    ],
)
def test_a_worker_that_was_killed(tmp_path, peers, death, who):
    save(tmp_path)
    if peers is not None:
        log = EventLog(tmp_path)
        log.write("start", peers=[{"rank": 5, "host": "old", "pid": 71}])
        log.write("start", peers=peers)
        log.close()
    assert failed(Outcome(137, death=death), tmp_path, Launch(workers=2)) == (
        f"{who}; all others were ended; go on with: arignote train --resume {tmp_path}"
    )
