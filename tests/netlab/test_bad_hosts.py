"""What `arignote train` says of hosts that a real sshd does not let it use, before it starts."""

from __future__ import annotations

import json
import shlex
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path
from typing import Any

FAULTS = """
set -e
lab=$(dirname "$(dirname "$(command -v ssh)")")/ssh
ssh h5 mount --bind {empty} {programs}
ssh h6 mount --bind {empty} {site_packages}
ssh h7 mount --bind {other} {shared}
sed -i -e '/^h1,/d' -e '/^h2,/d' $lab/known_hosts
sed 's/^/h2,10.77.0.3 /' $lab/h1.key.pub >> $lab/known_hosts
kill $(cat $lab/h3.sshd.pid)
sed -i 's/^AuthorizedKeysFile.*/AuthorizedKeysFile none/' $lab/h4.conf
kill -HUP $(cat $lab/h4.sshd.pid)
kill -STOP $(cat $lab/h8.sshd.pid)
"""
"""Each host gets one of its own. ssh reads the lab's files, which lie beside its wrapper."""

ASK = """
import json, sys
from arignote.launch.hostcheck.admit import host_problems
from arignote.launch.hostcheck.reach import Shell

def ask(*hosts, seconds):
    interfaces = [("btl_tcp_if_include", ["ib0"])]
    environment = {"PYTHONPATH": sys.argv[1]}
    shell = Shell(("ssh",))
    return host_problems(hosts, shell, environment, interfaces, timeout_seconds=seconds)

print(json.dumps([*ask("h8", seconds=2), *ask(*(f"h{i}" for i in (0, 1, 2, 3, 4, 5, 6, 7, 9)),
    seconds=60)]))
"""


def test_every_fault_is_a_line_and_no_process_is_started(sshd_netlab: Any) -> None:
    lab = sshd_netlab
    empty, shared, other = (lab.folder / name for name in ("empty", "shared", "other"))
    installed = other / "numpy-1.0.0.dist-info"
    for folder in (empty, shared, installed):
        folder.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 1.0.0\n")
    faults = FAULTS.format(
        empty=empty,
        programs=Path(sys.executable).parent,
        site_packages=sysconfig.get_path("purelib"),
        other=other,
        shared=shared,
    )
    (lab.folder / "ask.py").write_text(ASK)
    ask = shlex.join([sys.executable, "ask.py", str(shared)])
    train = f"{sys.executable} -m arignote train digits-mlp --hosts h0:1,h3:1,h9:1 --out run"
    command = f"{faults}\n{ask}\n{train}"
    ended = lab("9", "1gbit", "--sshd", "--", "sh", "-c", command, code=2)
    closed = "h3: nothing answers to ssh there: start its sshd"
    (numpy, ours) = version("numpy"), version("arignote")
    said = json.loads(ended.out)
    assert said[:7] == [
        "h8 cannot be reached: see whether it is up, and the network and firewalls to it",
        "h1: its ssh host key is not known here: log in once with `ssh h1` and accept it",
        "h2: its ssh host key has changed: if it was set up anew, `ssh-keygen -R h2` and log in "
        "once",
        closed,
        "h4: ssh does not let us in without a password: `ssh-copy-id h4`",
        f"h5 has no {sys.executable}: install the same environment there, under the same path, or "
        "use a folder that all hosts share",
        "unknown host 'h9': check its name, or add it to DNS, /etc/hosts or ~/.ssh/config",
    ]
    assert f"h6 has no arignote, h0 has {ours}: pip install arignote=={ours} on h6" in said
    assert f"h7 has numpy 1.0.0, h0 has {numpy}: pip install numpy=={numpy} on h7" in said
    assert said[-1] == (
        "h0, h6, h7 have no interface ib0, which btl_tcp_if_include names (h0 has lo, eth0): name "
        "one that leads to the other hosts, or leave the setting out"
    )
    more = "(and 1 more: arignote doctor --hosts h0,h3,h9)"
    assert ended.err == f"arignote: error: {closed} {more}\n"
    assert not (lab.folder / "run").exists()
