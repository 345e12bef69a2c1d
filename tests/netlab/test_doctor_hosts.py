"""`arignote doctor --hosts` finds what was planted on emulated hosts."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
DOCTOR = shlex.join([sys.executable, "-m", "arignote", "doctor"])


def search_path(*first: Path) -> str:
    """PYTHONPATH: these folders, then what makes torch quick to import."""
    before = os.environ.get("PYTHONPATH", "")
    return os.pathsep.join(filter(None, [*map(str, first), str(TESTS / "lean"), before]))


def test_another_version_and_a_slow_link_are_found(netlab: Any) -> None:
    # A folder that Python looks into first is empty on h0. h1 mounts another one over it, in its
    # own mount namespace, which holds what an installed numpy leaves: so it is a file system
    # of h1's that differs, as after another `pip install` there.
    shared, own = netlab.folder / "packages", netlab.folder / "packages-of-h1"
    shared.mkdir()
    installed = own / "numpy-1.0.0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 1.0.0\n")
    netlab.environment["PYTHONPATH"] = search_path(shared)
    mount = f"ssh h1 mount --bind {own} {shared}"
    command = f"{mount} && exec {DOCTOR} --json --hosts h0:1,h1:1 --timeout 90"
    link = ("--slow", "h1:20mbit")
    ended = netlab("2", "1gbit", *link, "--", "sh", "-c", command, code=1, timeout=200)
    assert "Traceback" not in ended.err
    found = json.loads(ended.out)
    version = found["hosts"]["h0"]["packages"]["numpy"]
    rate = min(found["links"][0]["there_mbit"], found["links"][0]["back_mbit"])
    # What a shaped link lets through at once makes a short transfer a little faster than it is.
    assert 0 < rate < 40
    expected = [
        f"h1 has numpy 1.0.0, h0 has {version}: pip install numpy=={version} on h1",
        f"h0 - h1: {rate:.0f} Mbit/s, less than 500: use a faster network (name its interface, as "
        "OMPI_MCA_btl_tcp_if_include does), or a rule or codec that sends less",
    ]
    # Of a small machine there may be more to say.
    assert [line for line in found["advice"] if line in expected] == expected
    assert [facts["node"] for facts in found["hosts"].values()] == ["h0", "h1"]
    assert found["hosts"]["h1"]["ways"] == {"h0": "eth0"}
    assert abs(found["hosts"]["h1"]["clock_seconds"]) < 1


def test_a_host_that_is_not_there_is_named_and_the_others_are_checked(netlab: Any) -> None:
    netlab.environment["GLOO_SOCKET_IFNAME"] = "ib0"
    ended = netlab("2", "1gbit", "--", "sh", "-c", f"{DOCTOR} --hosts h0:1,h1:1,h9:1", code=1)
    assert ended.err == ""
    assert [line for line in ended.out.splitlines() if line.startswith("advice")] == [
        "advice: unknown host 'h9': check its name, or add it to DNS, /etc/hosts or ~/.ssh/config",
        "advice: the links were not measured: all hosts must answer first",
        "advice: h0, h1 have no interface ib0, which GLOO_SOCKET_IFNAME names (h0 has lo, eth0): "
        "name one that leads to the other hosts, or leave the setting out",
    ]
