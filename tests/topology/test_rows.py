"""What doctor says of sockets, nodes and GPUs."""

from __future__ import annotations

from arignote.topology.machine import UNKNOWN_NODE, Machine, parse_cpus
from arignote.topology.rows import SeenGpu, topology_rows

TWO = {0: "0-3,8-11", 1: "4-7,12-15"}
ALL = parse_cpus("0-15")


def gpu(number, address, free_gib=79.0):
    return SeenGpu(f"cuda:{number}", "H100", address, free_gib, 80.0)


def test_gpus_stand_with_their_nodes(make_machine):
    gpus = {"0000:01:00.0": 0, "0000:81:00.0": 1, "0000:82:00.0": 1, "0000:c1:00.0": UNKNOWN_NODE}
    machine = make_machine(TWO, gpus=gpus, threads=2)
    seen = [gpu(0, "0000:01:00.0"), gpu(1, "0000:82:00.0", None)]
    assert topology_rows(machine, ALL, seen) == {
        "topology": "2 sockets, 2 NUMA nodes, 8 cores (CPUs 0-15)",
        "node 0": "4 cores (CPUs 0-3,8-11); 1.0 of 4.0 GiB free; cuda:0 H100 (79.0 of 80.0 GiB "
        "free)",
        "node 1": "4 cores (CPUs 4-7,12-15); 1.0 of 4.0 GiB free; cuda:1 H100 (full); NVIDIA "
        "0000:81:00.0, not seen by torch",
        "near no known node": "NVIDIA 0000:c1:00.0, not seen by torch",
    }


def test_only_what_may_be_used(make_machine):
    rows = topology_rows(make_machine(TWO, threads=2), parse_cpus("0"), [])
    assert rows["topology"] == "1 socket, 2 NUMA nodes, 1 core (CPUs 0)"
    assert rows["node 0"] == "1 core (CPUs 0); 1.0 of 4.0 GiB free"
    assert rows["node 1"] == "no core that may be used; 1.0 of 4.0 GiB free"


def test_one_node_and_a_torch_that_tells_no_address(make_machine):
    machine = make_machine({0: "0-3"}, gpus={"0000:01:00.0": UNKNOWN_NODE})
    rows = topology_rows(machine, parse_cpus("0-3"), [gpu(0, "")])
    assert rows["node 0"].endswith("free; cuda:0 H100 (79.0 of 80.0 GiB free)")
    assert "near no known node" not in rows


def test_a_machine_that_tells_nothing(tmp_path):
    rows = topology_rows(Machine(tmp_path / "nothing"), parse_cpus("0-1"), [gpu(0, "x")])
    assert rows == {
        "topology": "1 socket, 0 NUMA nodes, 2 cores (CPUs 0-1)",
        "near no known node": "cuda:0 H100 (79.0 of 80.0 GiB free)",
    }
