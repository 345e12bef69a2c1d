"""Ask every host for its facts, all at once, each with a deadline, the way the launcher goes there:
through the remote shell that it would use, or srun inside an allocation.

Without MPI, because a host whose versions differ may not be able to join a job, and because each
host's own answer tells which one cannot be reached.
"""

from __future__ import annotations

import json
import platform
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from arignote.config.settings import Launch
from arignote.launch.hostcheck import facts
from arignote.launch.hostcheck.network_settings import find_setting
from arignote.launch.hostcheck.report import HostFacts

_AT_ONCE = 32
_AGENTS = (
    *("PRTE_MCA_plm_ssh_agent", "OMPI_MCA_plm_rsh_agent"),
    *("HYDRA_LAUNCHER_EXEC", "I_MPI_HYDRA_BOOTSTRAP_EXEC"),
)
"""Variables by which a user names the remote shell of Open MPI 5 and 4, MPICH and Intel MPI."""

_START = """\
import os, sys
os.environ.update({environment!r})
try:
    os.chdir({folder!r})
except OSError:
    pass
os.execv(sys.executable, [sys.executable, "-c", {source!r}, {hosts!r}])
"""

_REASONS = (
    (
        "could not resolve hostname|name or service not known|invalid node name|: no host ",
        "unknown host {host!r}: check its name, or add it to DNS, /etc/hosts or ~/.ssh/config",
    ),
    (
        "remote host identification has changed",
        "{host}: its ssh host key has changed: if it was set up anew, `ssh-keygen -R {host}` and "
        "log in once",
    ),
    (
        "host key verification failed",
        "{host}: its ssh host key is not known here: log in once with `ssh {host}` and accept it",
    ),
    (
        "permission denied",
        "{host}: ssh does not let us in without a password: `ssh-copy-id {host}`",
    ),
    ("connection refused", "{host}: nothing answers to ssh there: start its sshd"),
    (
        "timed out|no route to host|network is unreachable",
        "{host} cannot be reached: see whether it is up, and the network and firewalls to it",
    ),
    (
        "node configuration is not available|not in (this|the) (job|allocation)",
        "{host} is not in this Slurm allocation: name only hosts that are",
    ),
)
_NOT_FOUND = (126, 127)
"""How a shell says that it cannot run a program."""


@dataclass(frozen=True)
class Shell:
    """How a command is run on another host."""

    argv: tuple[str, ...]
    slurm: bool = False

    def command(self, host: str, *, timeout_seconds: float) -> list[str]:
        """The argv that runs Python on `host`, which reads its program from stdin."""
        if self.slurm:
            options = ["--overlap", "--nodes=1", "--ntasks=1", "--mpi=none", f"--nodelist={host}"]
            return [*self.argv, *options, sys.executable, "-"]
        options = []
        if Path(self.argv[0]).name == "ssh":
            # Nobody is there to type a password, or to accept a key.
            # Of a host that is down, ssh can say so before our own deadline.
            connect = max(1, int(timeout_seconds / 2))
            options = ["-x", "-oBatchMode=yes", f"-oConnectTimeout={connect}"]
        return [*self.argv, *options, host, "exec", shlex.quote(sys.executable), "-"]

    def explain(self, host: str, code: int, said: str) -> str:
        """A line on why the command ended with `code`, from what was said on stderr."""
        text = " ".join(said.split())
        for pattern, reason in _REASONS:
            if re.search(pattern, text, re.IGNORECASE):
                return reason.format(host=host)
        if code in _NOT_FOUND:
            return (
                f"{host} has no {sys.executable}: install the same environment there, under the "
                "same path, or use a folder that all hosts share"
            )
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        last = lines[-1] if lines else "it said nothing"
        how = Path(self.argv[0]).name
        return f"{host}: {how} ended with code {code}: {last}: try `{self.trial(host)}`"

    def trial(self, host: str) -> str:
        """What a user can type to see for himself."""
        where = f"--overlap --nodelist={host}" if self.slurm else host
        return f"{' '.join(self.argv)} {where} true"


def find_shell(settings: Launch, *, slurm: bool) -> Shell:
    """What the launcher would use.

    Args:
        slurm: whether srun starts the processes of this job, or those that start them.
    """
    if slurm:
        return Shell(("srun",), slurm=True)
    agent = find_setting(settings, _AGENTS)
    # Open MPI takes a list of agents, the first of which is the one to be preferred.
    first = shlex.split(agent[1].split(":")[0]) if agent is not None else []
    return Shell(tuple(first or ["ssh"]))


def ask_hosts(
    hosts: Sequence[str],
    shell: Shell,
    environment: dict[str, str],
    timeout_seconds: float,
    *,
    otherwise: str,
) -> dict[str, HostFacts | str]:
    """Each host's facts, or a line on why there are none.

    Args:
        environment: the variables that workers there would have.
        timeout_seconds: how long a host may take.
        otherwise: what a user can do who knows that it takes longer.
    """

    def ask(host: str) -> HostFacts | str:
        try:
            return _ask(host, hosts, shell, environment, timeout_seconds)
        except subprocess.TimeoutExpired:
            return (
                f"{host} did not answer within {timeout_seconds:g} s: see whether "
                f"`{shell.trial(host)}` returns, or {otherwise}"
            )

    with ThreadPoolExecutor(min(_AT_ONCE, len(hosts))) as pool:
        return dict(zip(hosts, pool.map(ask, hosts), strict=True))


def _ask(
    host: str,
    hosts: Sequence[str],
    shell: Shell,
    environment: dict[str, str],
    timeout_seconds: float,
) -> HostFacts | str:
    others = [other for other in hosts if other != host]
    program = _program(others, environment)
    if not shell.slurm and is_here(host):
        command = [sys.executable, "-"]
    elif shutil.which(shell.argv[0]) is None:
        return f"{host}: no program {shell.argv[0]!r} here: install OpenSSH's client"
    else:
        command = shell.command(host, timeout_seconds=timeout_seconds)
    done = subprocess.run(
        command,
        input=program,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout_seconds,
        check=False,
    )
    found = read_facts(done.stdout)
    return found or shell.explain(host, done.returncode, done.stderr)


def _program(others: list[str], environment: dict[str, str]) -> str:
    """What Python is to run there: on stdin, because others can read a command line, and variables
    may be secret.
    """
    source = Path(facts.__file__).read_text(encoding="utf-8")
    folder, hosts = str(Path.cwd()), json.dumps(others)
    return _START.format(environment=environment, folder=folder, source=source, hosts=hosts)


def read_facts(printed: str) -> HostFacts | None:
    """The facts in what a host printed; None: there are none."""
    for line in printed.splitlines():
        if line.startswith(facts.PREFIX):
            try:
                return HostFacts.model_validate_json(line[len(facts.PREFIX) :])
            except ValidationError:
                return None
    return None


def is_here(host: str) -> bool:
    """Whether `host` is a name of this machine."""
    own = platform.node()
    if host in ("localhost", own, own.partition(".")[0]):
        return True
    try:
        address = str(socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)[0][4][0])
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as asked:
            # Only an address of this machine can be bound to.
            asked.bind((address, 0))
    except OSError:
        return False
    return True
