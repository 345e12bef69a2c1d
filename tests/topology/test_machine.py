"""Nodes, sockets, cores and GPUs, read from a /sys."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from arignote.topology.machine import (
    UNKNOWN_NODE,
    Cores,
    Machine,
    PciGpu,
    allowed_cpus,
    parse_cpus,
    write_cpus,
)

TWO = {0: "0-3,8-11", 1: "4-7,12-15"}


@pytest.mark.parametrize(
    ("text", "cpus"), [("", []), ("0", [0]), ("0-2,8", [0, 1, 2, 8]), ("4,6-7", [4, 6, 7])]
)
def test_sets_of_cpus(text, cpus):
    assert sorted(parse_cpus(text)) == cpus
    assert write_cpus(cpus) == text


def test_two_nodes(make_machine):
    machine = make_machine(TWO, threads=2)
    first, second = machine.nodes()
    assert (first.number, write_cpus(first.cpus)) == (0, "0-3,8-11")
    assert (second.number, write_cpus(second.cpus)) == (1, "4-7,12-15")
    assert (first.memory_gib, first.free_gib) == (4.0, 1.0)
    assert machine.sockets(range(16)) == [first.cpus, second.cpus]
    assert machine.cores(first.cpus) == [{0, 8}, {1, 9}, {2, 10}, {3, 11}]
    # A CPU set may hold one thread of a core.
    assert machine.cores({0, 1, 9}) == [{0}, {1, 9}]


def test_how_many_cores(make_machine, tmp_path):
    machine = make_machine(TWO, threads=2)
    assert machine.count_cores(parse_cpus("0-15")) == Cores((4, 4), (4, 4))
    assert machine.count_cores(parse_cpus("0-3,8-9")) == Cores((4,), (4,))
    assert Machine(tmp_path / "nothing").count_cores(parse_cpus("0-3")) == Cores((4,), ())


def test_a_node_that_is_offline_does_not_count(make_machine):
    assert [node.number for node in make_machine(TWO, offline=(1,)).nodes()] == [0]


def test_gpus(make_machine, tmp_path):
    machine = make_machine(TWO, gpus={"0000:c1:00.0": 1, "0000:41:00.0": UNKNOWN_NODE})
    network_card = tmp_path / "bus/pci/devices/0000:02:00.0"
    network_card.mkdir()
    (network_card / "vendor").write_text("0x10de\n")
    (network_card / "class").write_text("0x020000\n")
    assert machine.gpus() == [
        PciGpu("0000:41:00.0", "NVIDIA", UNKNOWN_NODE),
        PciGpu("0000:c1:00.0", "NVIDIA", 1),
    ]
    assert machine.node_of("0000:c1:00.0") == 1
    assert machine.node_of("0000:ff:00.0") == UNKNOWN_NODE


def test_a_machine_that_tells_nothing(tmp_path):
    machine = Machine(tmp_path / "nothing")
    assert machine.nodes() == []
    assert machine.gpus() == []
    assert machine.cores({0, 1}) == [{0}, {1}]
    assert machine.sockets([0, 1]) == [{0, 1}]


@pytest.mark.skipif(not Path("/sys/devices/system/cpu").is_dir(), reason="no /sys here")
def test_this_machine():
    machine = Machine()
    assert allowed_cpus() <= frozenset(range(os.cpu_count() or 1))
    cores = machine.cores(allowed_cpus())
    assert frozenset().union(*cores) == allowed_cpus()
    assert sum(len(core) for core in cores) == len(allowed_cpus())
