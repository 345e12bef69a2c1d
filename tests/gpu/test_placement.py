"""Placement on real GPUs: which one, near which cores, and what is said of one that is full."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import torch

from arignote import accelerator
from arignote.comm.location import Location
from arignote.errors import UserError
from arignote.topology.machine import UNKNOWN_NODE, Machine, parse_cpus
from arignote.trainer.device_memory import bytes_asked, explained

pytestmark = pytest.mark.skipif(
    bool(accelerator.why_none()), reason=f"no GPU: {accelerator.why_none()}"
)

LOCATE = """
import json, os
from dataclasses import asdict
from arignote.comm.location import locate
from arignote.comm.serial import SerialWorld
from arignote.config.settings import Launch
[found] = locate(SerialWorld(), Launch(devices=["cuda"]))
print(json.dumps([asdict(found), sorted(os.sched_getaffinity(0))]))
"""


def test_a_worker_is_bound_near_its_gpu() -> None:
    # In a process of its own, which is bound then.
    done = subprocess.run(
        [sys.executable, "-c", LOCATE], capture_output=True, text=True, timeout=120, check=True
    )
    found, affinity = json.loads(done.stdout)
    assert (found["device"], bool(found["name"]), bool(found["identity"])) == ("cuda:0", True, True)
    assert parse_cpus(found["cpus"]) == frozenset(affinity)
    address, machine = accelerator.pci_address(torch.device("cuda", 0)), Machine()
    nodes = {node.number: node.cpus for node in machine.nodes()}
    near = machine.node_of(address) if address else UNKNOWN_NODE
    if found["bound"] and near != UNKNOWN_NODE:
        assert frozenset(affinity) <= nodes[near]
    assert found["bound"] != bool(found["remark"])


def test_the_bus_shows_what_torch_sees() -> None:
    seen = accelerator.seen()
    assert len(seen) == accelerator.count() >= 1
    on_bus = {gpu.address for gpu in Machine().gpus()}
    for gpu in seen:
        assert gpu.free_gib is None or 0 < gpu.free_gib <= gpu.gib
        # A container may hide the bus, and an older torch the address.
        assert not on_bus or not gpu.address or gpu.address in on_bus


def test_memory_that_is_not_there() -> None:
    device = torch.device("cuda", 0)
    total = accelerator.memory_bytes(0)[1]
    own = Location(0, "here", "cuda:0", "GPU", accelerator.identity(device), "0", 1, [], False, "")
    with pytest.raises(torch.cuda.OutOfMemoryError) as caught:
        torch.empty(2 * total, dtype=torch.uint8, device=device)
    asked = bytes_asked(caught.value)
    assert asked == pytest.approx(2 * total, rel=0.01)
    error = explained(caught.value, [own], 0)
    assert isinstance(error, UserError)
    assert "GiB free): use a smaller --batch-size" in str(error)


def test_two_workers_on_one_gpu(cli: Any) -> None:
    many = 2 * accelerator.count()
    line = ["train", "digits-mlp", "-n", str(many), "--devices", "cuda", "--steps", "2"]
    ended = cli(*line, "--out", "run")
    both = "0-1" if many == 2 else f"0,{many // 2}"
    assert f"workers {both} share cuda:0" in ended.out
    events = (cli.folder / "run/events.jsonl").read_text().splitlines()
    [placed] = [e for e in map(json.loads, events) if e["event"] == "placement"]
    expected = [f"cuda:{rank % (many // 2)}" for rank in range(many)]
    assert [worker["device"] for worker in placed["workers"]] == expected


def test_a_number_that_is_not_here(cli: Any) -> None:
    many = accelerator.count()
    ended = cli("train", "digits-mlp", "--devices", f"cuda:{many}", code=2)
    assert f"device cuda:{many} does not exist: this machine has {many} GPU" in ended.err
