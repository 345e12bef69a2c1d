"""Workers that find their places on a machine of two nodes and four GPUs."""

from __future__ import annotations

import pytest

from arignote import accelerator
from arignote.comm import location
from arignote.comm.location import locate
from arignote.comm.threads import run_threads, thread_worlds
from arignote.config.settings import Launch
from arignote.topology.machine import UNKNOWN_NODE, parse_cpus

ADDRESSES = ["0000:01:00.0", "0000:02:00.0", "0000:81:00.0", "0000:82:00.0"]
TWO = {0: "0-7", 1: "8-15"}


@pytest.fixture
def place(make_machine, monkeypatch):
    """place(8, nodes of the GPUs, CPUs that may be used): where eight workers are then."""
    bound = []

    def run(workers, near, allowed="0-15"):
        bound.clear()
        machine = make_machine(TWO, gpus=dict(zip(ADDRESSES, near, strict=True)))
        monkeypatch.setattr(location, "allowed_cpus", lambda: parse_cpus(allowed))
        launch = Launch(workers=workers, devices=["cuda"])
        return run_threads(
            thread_worlds(workers), lambda world: locate(world, launch, machine=machine)
        )[0]

    monkeypatch.setattr(accelerator, "why_none", lambda: "")
    monkeypatch.setattr(accelerator, "count", lambda: 4)
    monkeypatch.setattr(accelerator, "use", lambda device: None)
    monkeypatch.setattr(accelerator, "name", lambda index: "H100")
    monkeypatch.setattr(accelerator, "identity", lambda device: f"GPU-{device.index}")
    monkeypatch.setattr(accelerator, "pci_address", lambda device: ADDRESSES[device.index])
    monkeypatch.setattr(location, "bind", lambda cpus, children: bound.append(cpus))
    run.bound = bound
    return run


def test_eight_workers_on_four_gpus(place):
    found = place(8, [0, 0, 1, 1])
    assert [one.device for one in found] == [f"cuda:{rank % 4}" for rank in range(8)]
    assert [one.cpus for one in found] == [
        *("0-1", "2-3", "8-9", "10-11"),
        *("4-5", "6-7", "12-13", "14-15"),
    ]
    assert [one.nodes for one in found] == [[0], [0], [1], [1]] * 2
    assert {one.cores for one in found} == {2}
    assert len(place.bound) == 8


def test_who_cannot_be_near_stays(place):
    found = place(4, [0, UNKNOWN_NODE, 1, 1], allowed="0-7")
    assert [one.bound for one in found] == [True, False, False, False]
    assert len(place.bound) == 1
    assert [one.cpus for one in found] == ["0-7"] * 4
    assert found[0].remark == ""
    assert found[1].remark.startswith("the kernel does not say which NUMA node")
    assert found[2].remark.endswith("near node 1, of which none of our CPUs (0-7) is")
