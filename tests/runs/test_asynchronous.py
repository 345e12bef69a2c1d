"""Asynchronous rules with real processes: finished, stopped, killed; nothing left running."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from arignote.recorder.events import read_events

sys.path.insert(0, str(Path(__file__).parent))
from long_run import finish, start

PROGRAM = str(Path(__file__).parents[1] / "programs/attached_asynchronous.py")


@pytest.mark.parametrize(("rule", "servers"), [("easgd:period=4", 0), ("easgd:period=4", 2)])
def test_main_job(cli: Any, summary_of: Any, rule: str, servers: int) -> None:
    some = ("--servers", str(servers)) if servers else ()
    length = ("--epochs", "8", "--out", "run")
    ended = cli("train", "digits-cnn", "-n", "2", "--rule", rule, *some, *length)
    assert ended.err == ""
    summary = summary_of(cli.folder / "run")
    assert (summary["status"], summary["workers"]) == ("finished", 2)
    assert summary["metrics"]["accuracy"] > 0.9
    assert sum(summary["worker_steps"]) == 2 * summary["steps"]
    assert summary["exchanges"] == sum(steps // 4 for steps in summary["worker_steps"])
    assert ("server_load" in summary["notes"]) == bool(servers)
    # What every visit sends and brings.
    per_visit = 2 * 4 * summary["parameters"] if servers else 0
    assert summary["wire_bytes"] == summary["exchanges"] * per_visit


@pytest.mark.parametrize("mpi_cli", ["mpich"], indirect=True)
def test_mpich_with_a_server(mpi_cli: Any, summary_of: Any) -> None:
    data = ("--data", "synthetic:1x8x8,10,train=500,validation=50", "--epochs", "3")
    mpi_cli(
        "train", "digits-mlp", "-n", "2", "--rule", "asgd", "--servers", "1", *data, "--out", "r"
    )
    assert summary_of(mpi_cli.folder / "r")["status"] == "finished"


def peers(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = next(
        e["peers"] for e in read_events(folder) if e["event"] == "start"
    )
    return found


def test_a_signal_saves_and_resumes(
    cli: Any, wait_until: Any, reached: Any, summary_of: Any, worker_processes: Any
) -> None:
    process = start(
        cli, wait_until, reached, 2, "--epochs", "50", "--rule", "easgd", "--servers", "1"
    )
    process.send_signal(signal.SIGINT)
    err = finish(process, 20)
    assert process.returncode == 128 + signal.SIGINT
    assert worker_processes() == []
    stopped = summary_of(cli.folder / "run")
    assert stopped["status"] == "stopped"
    assert f"saved at step {stopped['steps']}; go on with: arignote" in err
    assert stopped["samples"] == epochs_of(stopped["steps"])
    more = str(stopped["steps"] + 10)
    cli("train", "--resume", "run", "--steps", more)
    resumed = summary_of(cli.folder / "run")
    assert (resumed["status"], str(resumed["steps"])) == ("finished", more)
    assert resumed["samples"] == epochs_of(int(more))


def epochs_of(steps: int) -> int:
    """Samples of so many steps of 32, 125 of them an epoch of 4000."""
    return steps // 125 * 4000 + steps % 125 * 32


@pytest.mark.parametrize(("victim", "servers"), [(2, "1"), (1, "0")])
def test_killed_worker_or_server_ends_the_run(
    cli: Any, wait_until: Any, reached: Any, worker_processes: Any, victim: int, servers: str
) -> None:
    process = start(
        cli, wait_until, reached, 2, "--epochs", "50", "--rule", "asgd", "--servers", servers
    )
    everybody = peers(cli.folder / "run")
    kinds = ["worker", "worker", "server"]
    assert [peer["kind"] for peer in everybody] == kinds[: 2 + int(servers)]
    os.kill(everybody[victim]["pid"], signal.SIGKILL)
    err = finish(process, 20)
    assert process.returncode == 1
    assert worker_processes() == []
    last = err.strip().splitlines()[-1]
    assert f" {victim} (host" in last
    assert f"pid {everybody[victim]['pid']}) was killed by SIGKILL" in last


@pytest.mark.parametrize(("victim", "servers"), [(2, "1"), (1, "0")])
def test_stopped_worker_or_server_is_named(
    cli: Any, wait_until: Any, reached: Any, worker_processes: Any, victim: int, servers: str
) -> None:
    process = start(
        *(cli, wait_until, reached, 2, "--epochs", "50", "--rule", "asgd", "--servers", servers),
        *("--set", "train.timeout_seconds=4.0"),
    )
    peer = peers(cli.folder / "run")[victim]
    os.kill(peer["pid"], signal.SIGSTOP)
    err = finish(process, 30)
    assert process.returncode == 1
    assert worker_processes() == []
    wanted = rf"{peer['kind']} {victim} \(host \S+, pid {peer['pid']}\) (did not|has not let go of)"
    assert re.search(wanted, err), err


@pytest.mark.parametrize(
    ("rule", "servers"), [("easgd:period=3", "0"), ("asgd", "1"), ("local-sgd:period=4", "0")]
)
def test_attached(cli: Any, rule: str, servers: str) -> None:
    ended = cli("run", "-n", "2", "--servers", servers, PROGRAM, rule)
    assert ended.err == ""
    # Three epochs of 202 samples, and one worker that tells.
    (match,) = re.findall(r"samples (\d+) loss (\S+)\n", ended.out)
    assert match[0] == "606"
    assert float(match[1]) < 4


def test_servers_for_a_rule_without_a_centre(cli: Any, worker_processes: Any) -> None:
    ended = cli("run", "-n", "2", "--servers", "1", PROGRAM, "bsp", code=2)
    (line,) = ended.err.strip().splitlines()
    assert line.startswith("arignote: error: 1 server, but bsp has no centre: use --servers 0, or")
    assert worker_processes() == []


def test_more_servers_than_elements(cli: Any) -> None:
    ended = cli("run", "-n", "2", "--servers", "2", PROGRAM, "easgd", "tiny", code=2)
    (line,) = ended.err.strip().splitlines()
    assert line.startswith("arignote: error: 2 servers for a vector of 1 elements: use --servers 1")


def test_what_the_launcher_refuses(cli: Any) -> None:
    def refused(*more: str) -> str:
        (line,) = cli("train", "digits-mlp", "-n", "2", *more, code=2).err.strip().splitlines()
        assert not (cli.folder / "runs").exists()
        return str(line)

    assert "1 server for a rule that has no centre" in refused("--servers", "1")
    easgd = ("--rule", "easgd")
    assert "launch.servers: got 70000" in refused(*easgd, "--servers", "70000")
    assert "launch.servers: got -1" in refused(*easgd, "--servers", "-1")
    assert "2 workers and 1 server but only 2 slots on 2 hosts: use -n 1" in refused(
        *easgd, "--servers", "1", "--hosts", "a,b"
    )
    assert "batch_norm" in refused(*easgd, "--set", "train.batch_norm=synchronised")


def test_dry_run_shows_all_processes(cli: Any) -> None:
    command = ("train", "digits-mlp", "--rule", "easgd", "--dry-run")
    assert " -n 5 " in cli(*command, "-n", "3", "--servers", "2").out
    # Several hosts with a slot to spare: a server by itself.
    assert " -n 4 " in cli(*command, "-n", "3", "--hosts", "a:2,b:2").out
    assert " -n 3 " in cli(*command, "-n", "3", "--servers", "0", "--hosts", "a:2,b:2").out
    assert " -n 4 " in cli(*command, "--servers", "1", "--hosts", "a:2,b:2").out
    assert " -n 3 " in cli("run", "-n", "2", "--servers", "1", "--dry-run", PROGRAM).out
