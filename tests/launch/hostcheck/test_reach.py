"""How hosts are asked, and what is said of one that does not answer."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from arignote.config.settings import Launch
from arignote.launch.hostcheck import reach
from arignote.launch.hostcheck.facts import PREFIX
from arignote.launch.hostcheck.reach import Shell, ask_hosts, find_shell

SSH = Shell(("ssh",))
SRUN = Shell(("srun",), slurm=True)


@pytest.fixture(autouse=True)
def no_agent(monkeypatch):
    for name in reach._AGENTS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def answer(monkeypatch):
    """answer(returncode, stdout, stderr): what every command comes to; the commands so far."""
    commands = []

    def answer(code=0, out="", err="", error=None):
        def run(command, **options):
            commands.append((command, options))
            if error is not None:
                raise error
            return SimpleNamespace(returncode=code, stdout=out, stderr=err)

        monkeypatch.setattr(reach.subprocess, "run", run)
        monkeypatch.setattr(reach.shutil, "which", lambda name: f"/bin/{name}")
        return commands

    return answer


def ask(shell=SSH, **environment):
    return ask_hosts(["nohost.invalid"], shell, environment, 8.0, otherwise="raise --timeout")[
        "nohost.invalid"
    ]


def test_facts_after_a_greeting(answer, hosts):
    [facts] = hosts({}).values()
    commands = answer(out=f"Welcome!\n{PREFIX}{facts.model_dump_json()}\n")
    assert ask(MY_TOKEN="secret") == facts
    command, options = commands[-1]
    start = ["ssh", "-x", "-oBatchMode=yes", "-oConnectTimeout=4", "nohost.invalid"]
    assert command == [*start, "exec", sys.executable, "-"]
    # On stdin: command lines can be read by everybody.
    assert "secret" in options["input"]
    compile(options["input"], "<stdin>", "exec")
    assert options["timeout"] == 8.0


@pytest.mark.parametrize(
    ("code", "said", "line"),
    [
        (
            255,
            "ssh: Could not resolve hostname nohost.invalid: Name or service not known",
            "unknown host 'nohost.invalid': check its name, or add it to DNS, /etc/hosts or "
            "~/.ssh/config",
        ),
        (
            255,
            "No ED25519 host key is known for h1 and you have requested strict checking.\r\n"
            "Host key verification failed.\r\n",
            "nohost.invalid: its ssh host key is not known here: log in once with `ssh "
            "nohost.invalid` and accept it",
        ),
        (
            255,
            "@@@\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n@@@\n"
            "Host key verification failed.",
            "nohost.invalid: its ssh host key has changed: if it was set up anew, `ssh-keygen -R "
            "nohost.invalid` and log in once",
        ),
        (
            255,
            "root@h1: Permission denied (publickey,password).",
            "nohost.invalid: ssh does not let us in without a password: `ssh-copy-id "
            "nohost.invalid`",
        ),
        (
            255,
            "ssh: connect to host h1 port 22: Connection refused",
            "nohost.invalid: nothing answers to ssh there: start its sshd",
        ),
        (
            255,
            "ssh: connect to host h1 port 22: No route to host",
            "nohost.invalid cannot be reached: see whether it is up, and the network and firewalls "
            "to it",
        ),
        (
            1,
            "srun: error: Unable to create step for job 3: Requested node configuration is not "
            "available",
            "nohost.invalid is not in this Slurm allocation: name only hosts that are",
        ),
        (
            127,
            "sh: 1: exec: /env/bin/python: not found",
            f"nohost.invalid has no {sys.executable}: install the same environment there, under "
            "the same path, or use a folder that all hosts share",
        ),
        (
            1,
            "Traceback\nOSError: disk\n\n",
            "nohost.invalid: ssh ended with code 1: OSError: disk: try `ssh nohost.invalid true`",
        ),
        (
            0,
            "",
            "nohost.invalid: ssh ended with code 0: it said nothing: try `ssh nohost.invalid true`",
        ),
    ],
)
def test_a_host_that_cannot_be_asked(answer, code, said, line):
    answer(code=code, err=said)
    assert ask() == line


def test_a_host_that_does_not_answer(answer):
    answer(error=subprocess.TimeoutExpired("ssh", 8))
    assert ask() == (
        "nohost.invalid did not answer within 8 s: see whether `ssh nohost.invalid true` returns, "
        "or raise --timeout"
    )


def test_a_node_that_does_not_answer(answer):
    answer(error=subprocess.TimeoutExpired("srun", 8))
    assert "`srun --overlap --nodelist=nohost.invalid true` returns" in ask(SRUN)


def test_facts_of_another_kind(answer):
    answer(out=f'{PREFIX}{{"node": 7}}\n')
    assert "it said nothing" in ask()


def test_no_ssh(answer, monkeypatch):
    answer()
    monkeypatch.setattr(reach.shutil, "which", lambda name: None)
    assert ask() == ("nohost.invalid: no program 'ssh' here: install OpenSSH's client")


def test_this_machine_is_asked_without_ssh(answer, hosts):
    [facts] = hosts({}).values()
    commands = answer(out=f"{PREFIX}{facts.model_dump_json()}\n")
    assert ask_hosts(["localhost"], SSH, {}, 8.0, otherwise="wait") == {"localhost": facts}
    assert commands[0][0] == [sys.executable, "-"]
    # A step of Slurm's has its own cores, also on this machine.
    ask_hosts(["localhost"], SRUN, {}, 8.0, otherwise="wait")
    assert commands[1][0] == [
        *("srun", "--overlap", "--nodes=1", "--ntasks=1", "--mpi=none", "--nodelist=localhost"),
        *(sys.executable, "-"),
    ]


def test_names_of_this_machine(monkeypatch):
    monkeypatch.setattr(reach.platform, "node", lambda: "n1.cluster")
    assert all(map(reach.is_here, ["localhost", "n1", "n1.cluster", "127.0.0.1"]))
    assert not reach.is_here("nohost.invalid")


def test_the_remote_shell_of_the_launcher(monkeypatch):
    assert find_shell(Launch(), slurm=True) == SRUN
    assert find_shell(Launch(), slurm=False) == SSH
    monkeypatch.setenv("OMPI_MCA_plm_rsh_agent", "/opt/rsh -q : ssh")
    shell = find_shell(Launch(), slurm=False)
    assert shell.command("h1", timeout_seconds=8)[:4] == ["/opt/rsh", "-q", "h1", "exec"]
    settings = Launch(mpirun_arguments=["--prtemca", "plm_ssh_agent", "oarsh"])
    assert find_shell(settings, slurm=False) == Shell(("oarsh",))
