"""`python -m arignote.forkserver.stub RUN_FOLDER [--resume]`: what MPI's launcher starts as a
worker where a host has many; the worker itself is forked from the host's server, which this one
starts if it is the first.

The bad story without it: of 64 workers on 2 cores each imports torch for 4 s of a core, and they
begin to train after more than two minutes.

It imports next to nothing, passes signals on, and ends as the worker does. When it ends first, as
when the launcher kills it, the server kills the worker. Where anything is in the way, it becomes an
ordinary worker.
"""

from __future__ import annotations

import hashlib
import os
import platform
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from arignote.control import PROCESS_VARIABLE
from arignote.loading.channel import Message, fits, receive, send

_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_RANK_PREFIXES = ("OMPI_", "PMIX_", "PMI_", "SLURM_PROCID", "SLURM_LOCALID")
"""Of variables that belong to one rank: who looks at the server must not take it for that rank."""
_CONNECT_SECONDS = 10.0


def main(arguments: list[str]) -> None:
    """Be the worker, as far as the launcher sees."""
    # PMI's older wire is an open file, which has a number that only this process knows. And of a
    # message that is cut short, as of long variables, the server would die.
    alone = "PMI_FD" in os.environ or not fits(_description(arguments))
    channel = None if alone else _connect(address_of(arguments[0]))
    if channel is None:
        _become_worker(arguments)
    told: list[int] = []
    for signal_number in _PASSED_ON:
        signal.signal(signal_number, lambda number, _: told.append(number))
    pid = _begin(channel, arguments)
    if pid is None:
        _become_worker(arguments)

    def pass_on(number: int, _: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)

    for signal_number in _PASSED_ON:
        signal.signal(signal_number, pass_on)
    for number in told:
        pass_on(number, None)
    _end_like(_code(channel))


def address_of(run_folder: str) -> str:
    """Of the server for a run on this host: an abstract socket, which leaves nothing behind."""
    # Hosts in containers may share a network, and so these addresses.
    text = f"{os.getuid()} {platform.node()} {run_folder}"
    return f"\0arignote-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def _connect(address: str) -> socket.socket | None:
    """A channel to the server, which is started if there is none; None: it cannot be."""
    deadline = time.monotonic() + _CONNECT_SECONDS
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    while time.monotonic() < deadline:
        try:
            channel.connect(address)
            return channel
        except ConnectionRefusedError:
            _start_server(address)
        except OSError:
            return None
    return None


def _start_server(address: str) -> None:
    """Unless another stub is about to."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        try:
            listener.bind(address)
        except OSError:
            # It has the address, but does not listen yet.
            time.sleep(0.01)
            return
        listener.listen(socket.SOMAXCONN)
        variables = {k: v for k, v in os.environ.items() if not k.startswith(_RANK_PREFIXES)}
        subprocess.Popen(
            [sys.executable, "-m", "arignote.forkserver.server", str(listener.fileno())],
            pass_fds=[listener.fileno()],
            env=variables,
            # Launchers signal whole groups, and a signal for one worker is not for all.
            start_new_session=True,
            # Not ours: the launcher waits until nobody has them any more.
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def _begin(channel: socket.socket, arguments: list[str]) -> int | None:
    """Have the worker forked; its process id, None: there is none."""
    try:
        send(channel, _description(arguments), (0, 1, 2))
        begun = receive(channel)
    except OSError:
        # The server has ended.
        return None
    return None if begun is None else int(begun[0]["pid"])


def _description(arguments: list[str]) -> Message:
    """What makes a process this one."""
    return {
        "arguments": arguments,
        "environment": {**os.environ, PROCESS_VARIABLE: str(os.getpid())},
        "folder": os.getcwd(),  # noqa: PTH109
        "cores": sorted(os.sched_getaffinity(0)),
    }


def _code(channel: socket.socket) -> int:
    """The worker's exit code, or minus the signal that ended it; of one whose server is gone, too,
    for it dies with it.
    """
    ended = receive(channel)
    return -signal.SIGKILL if ended is None else int(ended[0]["code"])


def _end_like(code: int) -> NoReturn:
    if code < 0:
        with suppress(OSError):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code % 256)


def _become_worker(arguments: list[str]) -> NoReturn:
    for number in _PASSED_ON:
        signal.signal(number, signal.SIG_DFL)
    command = [sys.executable, "-m", "arignote.worker", *arguments]
    os.execv(sys.executable, command)


if __name__ == "__main__":
    main(sys.argv[1:])
