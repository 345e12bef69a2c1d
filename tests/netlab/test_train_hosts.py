"""`arignote train` on hosts that a real sshd leads to: the bits of one host, by either MPI."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

STEPS, EXCHANGE = 2, "asa:fp32"
SETTINGS = ["--steps", str(STEPS), "--exchange", EXCHANGE, "--set", "launch.threads=1"]
TRAIN = shlex.join([sys.executable, "-m", "arignote", "train", "digits-mlp", *SETTINGS])
MPICH = Path(sys.prefix) / "mpich" / "bin" / "mpiexec"
HOSTFILES = {
    "openmpi": "h0 slots=2\nh1 slots=2\n",
    "mpich": "h0:2\nh1:2\n",
    "plain": "h0\nh1\n" * 2,
}


def test_two_and_four_hosts_train_to_the_weights_of_one(sshd_netlab: Any, train: Any) -> None:
    lab, others = sshd_netlab, "".join(f"h{i}\n" for i in range(4))
    (lab.folder / "hosts").write_text(others)
    for name, text in HOSTFILES.items():
        (lab.folder / name).write_text(text)
    commands = [
        f"{TRAIN} --hosts h0:2,h1:2 --out two",
        *(f"{TRAIN} --hostfile {name} --dry-run" for name in HOSTFILES),
    ]
    if MPICH.exists():
        commands.append(f"ARIGNOTE_MPIRUN={MPICH} {TRAIN} --hostfile hosts --out four")
    ended = lab("4", "1gbit", "--sshd", "--", "sh", "-ec", "\n".join(commands), timeout=200)
    assert ended.out.count(" --host h0:2,h1:2 ") == len(HOSTFILES)
    settings = {"train.steps": STEPS, "run.exchange": EXCHANGE}
    one = train(4, settings)
    for name, hosts in (("two", 2), ("four", 4)):
        if name == "four" and not MPICH.exists():
            pytest.skip("no MPICH beside this Python: `make setup` installs one")
        summary = json.loads((lab.folder / name / "summary.json").read_text())
        assert (summary["workers"], summary["status"]) == (4, "finished")
        assert summary["weights_sha256"] == one.sha
        events = (lab.folder / name / "events.jsonl").read_text().splitlines()
        (start,) = (e for e in map(json.loads, events) if e["event"] == "start")
        where = [peer["host"] for peer in start["peers"]]
        assert where == sorted([f"h{i}" for i in range(hosts)] * (4 // hosts))
