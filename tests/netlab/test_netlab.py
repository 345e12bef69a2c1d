"""Emulated hosts: they look like hosts, keep to the rate, carry MPI jobs, and leave nothing."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import signal
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "netlab"
SAY_FOLDER = 'dirname "$(dirname "$(command -v ssh)")"; '
"""A shell command that prints the folder of the lab it runs in."""


def assert_gone(folder: str) -> None:
    """Nothing is left of the lab that had this folder."""
    assert folder.startswith("/tmp/arignote-netlab-")
    assert not Path(folder).exists()
    assert folder not in Path("/proc/self/mounts").read_text()
    assert not list(Path("/sys/class/net").glob("port-h*"))
    assert processes_in(folder) == []


def processes_in(folder: str) -> list[str]:
    """The command lines of a lab's processes: they see its hosts file mounted on /etc/hosts."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"{Path(folder).name}/hosts" in (process / "mountinfo").read_text():
                found.append((process / "cmdline").read_text().replace("\0", " ").strip())
        except OSError:
            continue
    return found


def test_hosts_have_names_addresses_and_memory_of_their_own(netlab: Any) -> None:
    node = f"{sys.executable} -c 'import platform; print(platform.node())'"
    ended = netlab(
        *("3", "1gbit", "--", "sh", "-c"),
        f'{node}; ssh -x h2 "{node}"; ssh h1 hostname; getent hosts h1; ssh h2 getent hosts h1;'
        "touch /dev/shm/mine; ssh h1 ls /dev/shm; pwd; ssh h9 true",
        code=255,
    )
    lines = [" ".join(line.split()) for line in ended.out.splitlines()]
    assert lines == ["h0", "h2", "h1", *["10.77.0.2 h1"] * 2, str(netlab.folder)]
    assert ended.err == "ssh: no host 'h9' in this netlab\n"
    assert not Path("/dev/shm/mine").exists()


def test_other_hosts_get_no_variables_from_here(netlab: Any) -> None:
    netlab.environment["MY_KEY"] = "1"
    ended = netlab("2", "1gbit", "--", "sh", "-c", "echo a$MY_KEY; ssh h1 'echo b$MY_KEY'")
    assert ended.out == "a1\nb\n"


TRANSFER = """
import socket, subprocess, sys, time
SIZE = 4_000_000
def receive(connection):
    left = SIZE
    while left:
        left -= len(connection.recv(min(left, 65536)))
def other():
    with socket.create_server(("h1", 5000)) as server:
        print("listening", flush=True)
        connection = server.accept()[0]
        receive(connection)
        connection.sendall(b"!")
        connection.sendall(bytes(SIZE))
        connection.recv(1)
if len(sys.argv) > 1:
    other()
else:
    command = ["ssh", "h1", sys.executable, __file__, "other"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        connection = socket.create_connection(("h1", 5000))
        times = [time.monotonic()]
        connection.sendall(bytes(SIZE))
        connection.recv(1)
        times.append(time.monotonic())
        receive(connection)
        times.append(time.monotonic())
        connection.sendall(b"!")
    print(times[1] - times[0], times[2] - times[1])
"""


def test_a_link_is_no_faster_than_its_rate(netlab: Any) -> None:
    (netlab.folder / "transfer.py").write_text(TRANSFER)
    program = str(netlab.folder / "transfer.py")
    there, back = map(float, netlab("2", "100mbit", "--", sys.executable, program).out.split())
    # One bucketful (256 KiB) passes at once, and so may what is sent back before the clock is read.
    line_seconds = (4_000_000 - 2 * 256 * 1024) * 8 / 100e6
    assert there >= line_seconds
    assert back >= line_seconds


@pytest.mark.parametrize("code", [0, 5])
def test_nothing_is_left_when_the_command_ends(netlab: Any, code: int) -> None:
    leave = "setsid sleep 600 & ssh h1 sleep 600 & exit"
    ended = netlab("2", "1gbit", "--", "sh", "-c", f"{SAY_FOLDER} {leave} {code}", code=code)
    assert ended.err == ""
    assert_gone(ended.out.strip())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_when_netlab_is_told_to_stop(
    netlab: Any, wait_until: Any, number: int
) -> None:
    command = f"{SAY_FOLDER} ssh h1 sleep 600 & exec sleep 601"
    process = netlab.start("2", "1gbit", "--", "sh", "-c", command)
    folder = process.stdout.readline().strip()
    wait_until(lambda: {"sleep 600", "sleep 601"} <= set(processes_in(folder)), 10, "sleepers")
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert_gone(folder)


def test_a_command_may_take_its_time_to_stop(netlab: Any) -> None:
    command = "trap 'sleep 0.5; exit 9' TERM; echo ready; while :; do sleep 0.1; done"
    process = netlab.start("1", "1gbit", "--", "sh", "-c", command)
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 9


def test_what_a_killed_netlab_leaves_is_removed_by_the_next(netlab: Any, wait_until: Any) -> None:
    command = f"{SAY_FOLDER} setsid sleep 600 & ssh h1 sleep 601 & exec sleep 602"
    process = netlab.start("2", "1gbit", "--", "sh", "-c", command)
    folder = process.stdout.readline().strip()
    sleepers = {"sleep 600", "sleep 601", "sleep 602"}
    wait_until(lambda: sleepers <= set(processes_in(folder)), 10, "sleepers")
    process.kill()
    process.communicate(timeout=30)
    wait_until(lambda: not processes_in(folder), 10, "processes outlive their netlab")
    assert Path(folder).exists()
    netlab("1", "1gbit", "--", "true")
    assert_gone(folder)


def test_two_labs_at_once_do_not_meet(netlab: Any) -> None:
    wait = f"{SAY_FOLDER} until [ -e go ]; do sleep 0.05; done; ssh h1 hostname"
    first = netlab.start("2", "1gbit", "--", "sh", "-c", wait)
    folder = first.stdout.readline().strip()
    second = netlab("2", "1gbit", "--", "sh", "-c", f"{SAY_FOLDER} ssh h1 hostname; touch go")
    out, _ = first.communicate(timeout=30)
    assert (first.returncode, out) == (0, "h1\n")
    other, name = second.out.split()
    assert name == "h1"
    assert other != folder
    assert_gone(folder)
    assert_gone(other)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: HOSTS, RATE (see netlab --help)"),
        (["0", "1gbit", "--", "true"], "HOSTS is '0': expected a number from 1 to 64"),
        (["65", "1gbit", "--", "true"], "HOSTS is '65': expected a number from 1 to 64"),
        (["two", "1gbit", "--", "true"], "HOSTS is 'two': expected a number from 1 to 64"),
        (["2", "fast", "--", "true"], "RATE is 'fast': expected such as 100mbit or 1gbit"),
        (["2", "0mbit", "--", "true"], "RATE is '0mbit': expected such as 100mbit or 1gbit"),
        (["2", "1gbit", "true"], "unrecognized arguments: true (see netlab --help)"),
        (["2", "1gbit", "--"], "no COMMAND: expected netlab HOSTS RATE -- COMMAND..."),
        (
            ["2", "1gbit", "--latency", "long", "--", "true"],
            "--latency is 'long': expected such as 0.1ms or 50us",
        ),
        (
            ["2", "1gbit", "--slow", "h2:10mbit", "--", "true"],
            "--slow is 'h2:10mbit': expected a host of h0 to h1 and a rate, such as h0:10mbit",
        ),
        (
            ["2", "1gbit", "--slow", "h1:slow", "--", "true"],
            "--slow is 'h1:slow': expected a host of h0 to h1 and a rate, such as h0:10mbit",
        ),
        (
            ["2", "1gbit", "--", "no-such-program"],
            "no program 'no-such-program': check its name, or give its path",
        ),
    ],
)
def test_a_mistake_is_told_in_one_line(
    netlab_anywhere: Any, arguments: list[str], message: str
) -> None:
    ended = netlab_anywhere(*arguments, code=2)
    assert ended.out == ""
    assert ended.err == f"netlab: {message}\n"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module."""
    loader = importlib.machinery.SourceFileLoader("netlab_script", str(SCRIPT))
    spec = importlib.util.spec_from_loader("netlab_script", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    # It looks for its other half beside it, as scripts do.
    monkeypatch.syspath_prepend(SCRIPT.parent)
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = written
    return module


def test_what_a_machine_lacks_is_told(script: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(script.NetlabError, match="only root may make network namespaces"):
        script.check_machine(sshd=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(script.shutil, "which", lambda name: None if name == "tc" else name)
    with pytest.raises(script.NetlabError, match=r"no program 'tc' on PATH: install iproute2"):
        script.check_machine(sshd=False)
    monkeypatch.setattr(script.shutil, "which", lambda name: name)
    monkeypatch.setattr(script.netlab_sshd, "PROGRAM", "/no/sshd")
    remedy = r"no program '/no/sshd': apt-get install openssh-server"
    with pytest.raises(script.NetlabError, match=remedy):
        script.check_machine(sshd=True)
    with pytest.raises(script.NetlabError, match=r"permits no namespaces \(prctl: Invalid arg"):
        script._system("prctl", -1)
    with pytest.raises(script.NetlabError, match=r"`ls /no/such` failed: ls: .*No such file"):
        script.run("ls /no/such")


def test_mpi_sees_different_hosts(netlab: Any) -> None:
    program = netlab.folder / "hosts.py"
    program.write_text(
        "from mpi4py import MPI\n"
        "world = MPI.COMM_WORLD\n"
        "beside = world.Split_type(MPI.COMM_TYPE_SHARED)\n"
        "said = world.gather(f'{MPI.Get_processor_name()} {beside.size}')\n"
        "if world.rank == 0: print(*said, sep='\\n')\n"
    )
    mpirun = str(Path(sys.prefix) / "bin" / "mpirun")
    options = ["--allow-run-as-root", "--bind-to", "none", "--host", "h0:2,h1:1", "-n", "3"]
    ended = netlab("2", "1gbit", "--", mpirun, *options, sys.executable, str(program))
    assert ended.out.splitlines() == ["h0 2", "h0 2", "h1 1"]
