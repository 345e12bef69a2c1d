"""Which CPUs each worker of a host has."""

from __future__ import annotations

import pytest

from arignote.topology.machine import UNKNOWN_NODE, Machine, parse_cpus, write_cpus
from arignote.topology.sharing import share_cpus

TWO = {0: "0-7", 1: "8-15"}
FOUR_GPUS = {
    "0000:01:00.0": 0,
    "0000:02:00.0": 0,
    "0000:81:00.0": 1,
    "0000:82:00.0": 1,
}
ALL = parse_cpus("0-15")
A, B, C, D = FOUR_GPUS


def shared(machine, gpus, allowed=ALL):
    return [write_cpus(share.cpus) for share in share_cpus(machine, gpus, allowed)]


@pytest.fixture
def machine(make_machine):
    return make_machine(TWO, gpus=FOUR_GPUS)


@pytest.mark.parametrize(
    ("gpus", "expected"),
    [
        ([A, B, C, D], ["0-3", "4-7", "8-11", "12-15"]),
        # Two workers on each GPU.
        (
            [A, B, C, D, A, B, C, D],
            ["0-1", "2-3", "8-9", "10-11", "4-5", "6-7", "12-13", "14-15"],
        ),
        # All near one node: the other's cores are left alone.
        ([A, B], ["0-3", "4-7"]),
        ([D], ["8-15"]),
        ([A, A, A], ["0-1", "2-4", "5-7"]),
        # More than there are cores: they share.
        ([C] * 9, ["8-15"] * 9),
        # Who has no GPU goes where workers have most room.
        ([A, None], ["0-7", "8-15"]),
        ([A, B, None, None], ["0-3", "4-7", "8-11", "12-15"]),
        ([], []),
    ],
)
def test_cores_near_the_gpu(machine, gpus, expected):
    assert shared(machine, gpus) == expected
    assert all(not share.reason for share in share_cpus(machine, gpus, ALL))


def test_the_threads_of_a_core_stay_together(make_machine):
    machine = make_machine({0: "0-3,8-11", 1: "4-7,12-15"}, gpus=FOUR_GPUS, threads=2)
    assert shared(machine, [A, B, C]) == ["0-1,8-9", "2-3,10-11", "4-7,12-15"]


def test_only_what_the_process_may_use(machine):
    assert shared(machine, [A, C], parse_cpus("4-9")) == ["4-7", "8-9"]


def test_a_cpu_set_without_the_near_cores(machine):
    first, second = share_cpus(machine, [A, C], parse_cpus("0-7"))
    assert write_cpus(first.cpus) == "0-7"
    assert second.cpus == frozenset()
    assert second.reason == f"GPU {C} is near node 1, of which none of our CPUs (0-7) is"


def test_a_node_that_is_offline(make_machine):
    nodes = {**TWO, 2: "16-23"}
    machine = make_machine(nodes, gpus={**FOUR_GPUS, "0000:c1:00.0": 2}, offline=(2,))
    near, away = share_cpus(machine, [A, "0000:c1:00.0"], ALL)
    assert write_cpus(near.cpus) == "0-7"
    assert (away.cpus, away.reason.partition(",")[0]) == (
        frozenset(),
        "GPU 0000:c1:00.0 is near node 2",
    )


def test_a_gpu_of_which_the_node_is_not_known(make_machine):
    machine = make_machine(TWO, gpus={A: UNKNOWN_NODE})
    [share] = share_cpus(machine, [A], ALL)
    assert share.cpus == frozenset()
    assert share.reason == f"the kernel does not say which NUMA node GPU {A} is near to"
    [share] = share_cpus(machine, [""], ALL)
    assert share.cpus == frozenset()
    assert share.reason == "this torch does not tell which PCI device its GPU is"


def test_one_node_is_near_to_everything(make_machine):
    machine = make_machine({0: "0-7"}, gpus={A: UNKNOWN_NODE})
    assert shared(machine, [A, ""], parse_cpus("0-7")) == ["0-3", "4-7"]


def test_a_machine_that_knows_of_no_nodes(tmp_path):
    assert shared(Machine(tmp_path), [A, None], parse_cpus("0-3")) == ["0-1", "2-3"]
