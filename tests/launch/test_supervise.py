"""Watching over processes: small Python children, no MPI."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from arignote import control
from arignote.launch.environment import describe_environment, own_environment
from arignote.launch.flavours.base import Death
from arignote.launch.flavours.direct import Direct
from arignote.launch.flavours.openmpi import OpenMPI
from arignote.launch.supervise import Supervisor, stop_signals


class Kept:
    """A screen that keeps what it is shown."""

    def __init__(self):
        self.out, self.err, self.refreshed = [], [], 0

    def line(self, text, *, error):
        (self.err if error else self.out).append(text)

    def refresh(self):
        self.refreshed += 1


@pytest.fixture
def screen():
    return Kept()


def run(screen, code, *arguments, flavour=None, **given):
    options = {"graceful": False, "grace_seconds": 5.0, "started": lambda: True} | given
    supervisor = Supervisor(flavour or Direct(), screen, **options)
    return supervisor.run([sys.executable, "-c", code, *map(str, arguments)], dict(os.environ))


@pytest.fixture
def send(wait_until):
    """Send signals to this process, each once its condition holds."""
    threads = []

    def later(*steps):
        def work():
            for condition, number in steps:
                wait_until(condition, 20, "a child's sign")
                os.kill(os.getpid(), number)

        thread = threading.Thread(target=work, daemon=True)
        threads.append(thread)
        thread.start()

    yield later
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


@pytest.mark.parametrize("code", [0, 3, 77])
def test_the_exit_code_passes(screen, code):
    outcome = run(screen, f"raise SystemExit({code})")
    assert outcome.exit_code == code
    assert (outcome.asked_to_stop, outcome.report, outcome.death) == (0, None, None)
    assert not outcome.overdue
    assert screen.refreshed


def test_lines_pass(screen):
    run(
        screen,
        "import sys\n"
        "print('one'); print(); print('  two ü'); print('unfinished', end='')\n"
        "sys.stderr.write('-' * 70 + chr(10) + 'bad\\n'); sys.stderr.buffer.write(b'\\xff\\n')",
    )
    assert screen.out == ["one", "", "  two ü", "unfinished"]
    assert screen.err == ["-" * 70, "bad", "\ufffd"]


def test_much_output_does_not_block(screen):
    run(screen, "for i in range(20000): print('x' * 50, i)")
    assert len(screen.out) == 20000


def test_a_child_has_no_stdin_and_knows_the_control_folder(screen):
    run(
        screen,
        "import os, sys\n"
        f"print(repr(sys.stdin.read()), os.path.isdir(os.environ['{control.CONTROL_VARIABLE}']))\n"
        f"print(os.environ['{control.CONTROL_VARIABLE}'])",
    )
    assert screen.out[0] == "'' True"
    assert not Path(screen.out[1]).exists()


def test_a_killed_child(screen):
    outcome = run(screen, "import os; os.kill(os.getpid(), 9)")
    assert outcome.death == Death(9)
    assert outcome.exit_code == -9


def test_a_killed_launcher_is_no_worker(screen):
    outcome = run(screen, "import os; os.kill(os.getpid(), 9)", flavour=OpenMPI())
    assert outcome.death == Death(9, launcher=True)


REPORT = """
import os, time
from arignote import failure
from arignote.errors import UserError
failure.tell(failure.describe(UserError("no such thing"), 3))
"""


def test_a_report_is_returned(screen):
    outcome = run(screen, REPORT + "os._exit(2)")
    assert outcome.exit_code == 2
    assert outcome.report is not None
    assert (outcome.report.rank, outcome.report.message) == (3, "no such thing")
    assert (screen.out, screen.err) == ([], [])


SAYS = """
import sys
for line in ("arignote: error: no such thing", "arignote: error: another") * 2:
    print(line, file=sys.stderr)
"""


def test_what_workers_of_other_hosts_say_is_shown_once(screen):
    run(screen, SAYS)
    assert screen.err == ["arignote: error: no such thing", "arignote: error: another"]
    screen.err.clear()
    # The report is the caller's to show.
    run(screen, SAYS + REPORT)
    assert screen.err == ["arignote: error: another"]


def test_after_a_report_nobody_may_stay_for_ever(screen, monkeypatch):
    monkeypatch.setattr("arignote.launch.supervise._AFTER_FAILURE_SECONDS", 0.2)
    begun = time.monotonic()
    outcome = run(screen, REPORT + "time.sleep(60)")
    assert time.monotonic() - begun < 20
    assert outcome.report.message == "no such thing"


# Both ignore SIGTERM; the grandchild outlives the child unless somebody looks for it.
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import signal, time, sys\\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\\n"
    "open(sys.argv[1] + '.child', 'w').close()\\ntime.sleep(120)", sys.argv[1]])
with open(sys.argv[1] + ".tmp", "w") as file:
    file.write(f"{os.getpid()} {child.pid}")
while not os.path.exists(sys.argv[1] + ".child"):
    time.sleep(0.02)
os.rename(sys.argv[1] + ".tmp", sys.argv[1])
time.sleep(120)
"""


def gone(pid):
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_stop_leaves_nothing_behind(screen, send, tmp_path, number, monkeypatch):
    monkeypatch.setattr("arignote.launch.supervise._TERMINATE_SECONDS", 0.2)
    sign = tmp_path / "pids"
    handler = signal.getsignal(number)
    send((sign.exists, number))
    outcome = run(screen, STUBBORN, sign)
    assert outcome.asked_to_stop == number
    assert outcome.death is None
    pids = [int(pid) for pid in sign.read_text().split()]
    assert len(pids) == 2
    assert all(gone(pid) for pid in pids)
    assert signal.getsignal(number) == handler


GRACEFUL = """
import os, signal, sys, time
def leave(number, frame):
    print("saved", flush=True)
    if len(sys.argv) > 2:
        open(sys.argv[2], "w").close()
        time.sleep(120)
    sys.exit(0)
signal.signal(signal.SIGUSR1, leave)
open(sys.argv[1], "w").close()
while True:
    time.sleep(0.02)
"""


def test_a_graceful_child_may_save(screen, send, tmp_path):
    sign = tmp_path / "ready"
    send((sign.exists, signal.SIGINT))
    outcome = run(screen, GRACEFUL, sign, graceful=True, grace_seconds=20)
    assert (outcome.asked_to_stop, outcome.exit_code) == (signal.SIGINT, 0)
    assert screen.out == ["saved"]


def test_the_grace_ends(screen, send, tmp_path):
    sign = tmp_path / "ready"
    send((sign.exists, signal.SIGTERM))
    outcome = run(screen, GRACEFUL, sign, tmp_path / "slow", graceful=True, grace_seconds=0.3)
    assert outcome.asked_to_stop == signal.SIGTERM
    assert outcome.exit_code == -signal.SIGTERM
    assert screen.out == ["saved"]


def test_a_second_signal_does_not_wait(screen, send, tmp_path):
    sign, slow = tmp_path / "ready", tmp_path / "slow"
    send((sign.exists, signal.SIGINT), (slow.exists, signal.SIGTERM))
    begun = time.monotonic()
    outcome = run(screen, GRACEFUL, sign, slow, graceful=True, grace_seconds=100)
    assert time.monotonic() - begun < 40
    assert outcome.asked_to_stop == signal.SIGINT


def test_workers_that_must_leave_are_told_once_and_have_time(screen, tmp_path):
    sign, wishes = tmp_path / "ready", [True]

    def must_leave():
        return sign.exists() and bool(wishes) and wishes.pop()

    given = {"graceful": True, "grace_seconds": 0.0, "must_leave": must_leave}
    code = GRACEFUL.replace("sys.exit(0)", "time.sleep(0.3); sys.exit(0)")
    outcome = run(screen, code, sign, **given)
    assert (outcome.asked_to_stop, outcome.exit_code, outcome.death) == (0, 0, None)
    assert screen.out == ["saved"]


def test_who_is_asked_to_stop_is_not_asked_to_leave(screen, tmp_path):
    asked = [signal.SIGTERM]
    given = {"asked": asked, "must_leave": lambda: pytest.fail("it was asked to stop")}
    outcome = run(screen, GRACEFUL, tmp_path / "ready", **given)
    assert outcome.asked_to_stop == signal.SIGTERM


def test_signals_between_two_starts_are_kept(screen):
    handler, asked = signal.getsignal(signal.SIGTERM), []
    with stop_signals(asked):
        run(screen, "print(1)", asked=asked)
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked == [signal.SIGTERM]
        outcome = run(screen, "import time; time.sleep(60)", asked=asked)
        assert outcome.asked_to_stop == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == handler


def test_workers_that_have_not_met_cannot_save(screen, send, tmp_path):
    sign = tmp_path / "ready"
    send((sign.exists, signal.SIGINT))
    run(screen, GRACEFUL, sign, graceful=True, grace_seconds=100, started=lambda: False)
    assert screen.out == []


def test_workers_that_never_meet(screen):
    outcome = run(
        screen,
        "import time; time.sleep(120)",
        graceful=True,
        start_timeout_seconds=0.2,
        started=lambda: False,
    )
    assert outcome.overdue
    assert outcome.exit_code == -signal.SIGTERM


def test_once_met_there_is_no_start_timeout(screen):
    calls = []

    def started():
        calls.append(1)
        return len(calls) == 1

    outcome = run(
        screen,
        "import time; time.sleep(0.5)",
        graceful=True,
        start_timeout_seconds=0.2,
        started=started,
    )
    assert not outcome.overdue
    assert outcome.exit_code == 0


def test_a_launchers_message_that_nobody_understands_is_shown(screen, monkeypatch):
    flavour = Direct()
    monkeypatch.setattr(flavour, "starts_noise", lambda line: line.startswith("launcher:"))
    supervisor = Supervisor(flavour, screen, graceful=False, grace_seconds=1)
    code = "import sys; print('launcher: no slots', file=sys.stderr); sys.exit({})"
    assert supervisor.run([sys.executable, "-c", code.format(1)], dict(os.environ)).exit_code == 1
    assert screen.err == ["launcher: no slots"]
    screen.err.clear()
    supervisor = Supervisor(flavour, screen, graceful=False, grace_seconds=1)
    supervisor.run([sys.executable, "-c", code.format(0)], dict(os.environ))
    assert screen.err == []


def test_messages_on_stdout_are_held_back_where_the_launcher_speaks_there(screen, monkeypatch):
    flavour = Direct()
    monkeypatch.setattr(flavour, "noise_on_stdout", True)
    monkeypatch.setattr(flavour, "starts_noise", lambda line: line.startswith("launcher:"))
    monkeypatch.setattr(flavour, "death", lambda noise: Death(9) if "killed" in noise else None)
    supervisor = Supervisor(flavour, screen, graceful=False, grace_seconds=1)
    code = "print('one'); print('launcher: killed'); print('two'); raise SystemExit(9)"
    outcome = supervisor.run([sys.executable, "-c", code], dict(os.environ))
    assert outcome.death == Death(9)
    assert (screen.out, screen.err) == (["one", "two"], [])


def test_outside_the_main_thread_signals_are_left_alone(screen):
    outcomes = []
    thread = threading.Thread(target=lambda: outcomes.append(run(screen, "print(1)")))
    thread.start()
    thread.join(20)
    assert outcomes[0].exit_code == 0
    assert screen.out == ["1"]


def test_what_other_hosts_are_told():
    base = {
        "PATH": "/p",
        "HOME": "/h",
        "NCCL_DEBUG": "INFO",
        "ARIGNOTE_X": "1",
        "SECRET": "s",
        "OMPI_X": "1",
    }
    assert describe_environment(base) == {"PATH": "/p", "NCCL_DEBUG": "INFO", "ARIGNOTE_X": "1"}


def test_a_nested_launch_has_its_own_control_folder(monkeypatch):
    monkeypatch.setenv(control.CONTROL_VARIABLE, "/x")
    monkeypatch.setenv("OTHER", "1")
    environment = own_environment()
    assert control.CONTROL_VARIABLE not in environment
    assert environment["OTHER"] == "1"


def test_a_script_is_given_time_from_when_a_worker_joins(screen):
    text = (
        "import time; from arignote import control; control.mark(control.JOINING); time.sleep(60)"
    )
    outcome = run(screen, text, start_timeout_seconds=0.3, started=lambda: False)
    assert outcome.overdue
    text = "import time; time.sleep(0.6)"
    assert not run(screen, text, start_timeout_seconds=0.1, started=lambda: False).overdue
    text = (
        "import time; from arignote import control\n"
        "control.mark(control.JOINING); control.mark(control.MET); time.sleep(0.6)"
    )
    assert not run(screen, text, start_timeout_seconds=0.1, started=lambda: False).overdue


def test_what_stays_after_the_end_is_ended(screen, monkeypatch):
    monkeypatch.setattr("arignote.launch.supervise._AFTER_END_SECONDS", 0.2)
    outcome = run(screen, "import time; time.sleep(60)", ended=lambda: True)
    assert outcome.exit_code
    assert outcome.report is None


def test_a_launcher_that_we_kill_after_the_end_is_no_death(screen, monkeypatch):
    monkeypatch.setattr("arignote.launch.supervise._AFTER_END_SECONDS", 0.3)
    stays = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    outcome = run(screen, stays, ended=lambda: True)
    assert (outcome.exit_code, outcome.death) == (-signal.SIGKILL, None)
