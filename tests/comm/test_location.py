"""Which device each worker takes, and to which cores it binds itself."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
import torch

from arignote import accelerator
from arignote.comm import location
from arignote.comm.location import locate, pick_device, sharers
from arignote.comm.serial import SerialWorld
from arignote.comm.threads import run_threads, thread_worlds
from arignote.config.settings import Launch
from arignote.errors import UserError
from arignote.topology.machine import allowed_cpus, parse_cpus, write_cpus
from arignote.topology.sharing import Share

HOSTS = ["a", "a", "a", "b", "b"]


@pytest.fixture
def gpus(monkeypatch):
    """`gpus.count` of them on every host, near the nodes of `gpus.shares`; what was bound."""
    lab = SimpleNamespace(count=2, bound={}, asked={})

    def share(machine, addresses, allowed):
        lab.asked[tuple(addresses)] = write_cpus(allowed)
        return [Share(frozenset({index})) for index in range(len(addresses))]

    def bind(cpus, children):
        lab.bound[threading.get_ident()] = (cpus, list(children))

    monkeypatch.setattr(accelerator, "why_none", lambda: "")
    monkeypatch.setattr(accelerator, "count", lambda: lab.count)
    monkeypatch.setattr(accelerator, "use", lambda device: None)
    monkeypatch.setattr(accelerator, "name", lambda index: "H100")
    monkeypatch.setattr(accelerator, "identity", lambda device: f"GPU-{device.index}")
    monkeypatch.setattr(accelerator, "pci_address", lambda device: f"0000:0{device.index}:00.0")
    monkeypatch.setattr(location, "share_cpus", share)
    monkeypatch.setattr(location, "bind", bind)
    return lab


def everywhere(devices, *, hosts=HOSTS, **more):
    launch = Launch(workers=len(hosts), devices=devices, **more)
    found = run_threads(thread_worlds(len(hosts), hosts=hosts), lambda world: locate(world, launch))
    assert all(each == found[0] for each in found)
    return found[0]


def test_gpus_go_round_on_each_host(gpus):
    found = everywhere(["cuda"])
    assert [one.device for one in found] == ["cuda:0", "cuda:1", "cuda:0", "cuda:0", "cuda:1"]
    # Each host's workers share out its own cores.
    one, two = "0000:00:00.0", "0000:01:00.0"
    assert set(gpus.asked) == {(one, two, one), (one, two)}
    assert [one.cpus for one in found] == ["0", "1", "2", "0", "1"]
    assert all(one.bound and not one.remark and one.name == "H100" for one in found)
    # Number 0 of host b is another GPU.
    assert [sharers(found, rank) for rank in range(5)] == [[0, 2], [1], [0, 2], [3], [4]]


def test_a_gpu_of_its_own_for_each_worker_is_number_0(gpus):
    gpus.count = 1
    assert {one.device for one in everywhere(["cuda"])} == {"cuda:0"}


def test_beside_workers_on_cpus(gpus):
    found = everywhere(["cpu", "cuda", "cpu", "cuda:1", "cuda"])
    assert [one.device for one in found] == ["cpu", "cuda:0", "cpu", "cuda:1", "cuda:0"]
    assert set(gpus.asked) == {(None, "0000:00:00.0", None), ("0000:01:00.0", "0000:00:00.0")}
    assert sharers(found, 0) == [0]
    assert (found[0].name, found[0].identity) == ("", "")


@pytest.mark.parametrize(
    ("devices", "more"), [(["cuda"], {"bind": False}), ([], {}), (["cpu"], {})]
)
def test_who_is_not_bound_here(gpus, devices, more):
    found = everywhere(devices, **more)
    assert gpus.bound == {}
    assert {one.cpus for one in found} == {write_cpus(allowed_cpus())}
    assert not any(one.bound or one.remark for one in found)


def test_workers_that_somebody_else_has_bound_stay(gpus, monkeypatch):
    given = {0: "0-1", 1: "2-3", 2: "4-5", 3: "6", 4: "6"}
    own = threading.local()

    def work(world):
        own.rank = world.rank
        return locate(world, Launch(workers=5, devices=["cuda"]))

    monkeypatch.setattr(location, "allowed_cpus", lambda: parse_cpus(given[own.rank]))
    [found, *_] = run_threads(thread_worlds(5, hosts=HOSTS), work)
    assert [one.bound for one in found] == [False, False, False, True, True]
    assert {one.remark for one in found[:3]} == {
        "another program has bound the workers of this host one by one"
    }
    assert found[1].cpus == "2-3"


def test_a_number_that_a_host_does_not_have(gpus):
    message = (
        r"^worker 4 \(host b, pid \d+\) cannot use device cuda:2: it sees 2 GPUs there; use "
        r"--devices cuda, which shares out what each host has$"
    )
    with pytest.raises(UserError, match=message):
        pick_device(["cuda"] * 4 + ["cuda:2"], thread_worlds(5, hosts=HOSTS)[4])


def test_all_workers_fail_alike(gpus):
    """So that the launcher's host tells of it, too, and no MPI of lost connections."""
    said = []

    def work(world):
        with pytest.raises(UserError, match=r"^worker 4 .* cannot use device cuda:2") as caught:
            locate(world, Launch(workers=5, devices=["cuda"] * 4 + ["cuda:2"]))
        said.append(str(caught.value))

    run_threads(thread_worlds(5, hosts=HOSTS), work)
    assert len(said) == 5
    assert len(set(said)) == 1


def test_a_host_without_gpus(gpus, monkeypatch):
    monkeypatch.setattr(accelerator, "why_none", lambda: "its torch sees none")
    with pytest.raises(
        UserError, match=r"^worker 0 .* cannot use device cuda: its torch sees none"
    ):
        locate(SerialWorld(), Launch(devices=["cuda"]))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no CPU sets here")
def test_binding_takes_all_threads_and_children_along(tmp_path):
    cpu = min(allowed_cpus())
    program = (
        "import os, subprocess, sys, threading\n"
        "from arignote.comm.location import bind\n"
        "held = threading.Event()\n"
        "thread = threading.Thread(target=held.wait)\n"
        "thread.start()\n"
        "child = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)\n"
        f"bind(frozenset({{{cpu}}}), [child.pid])\n"
        "ids = [os.getpid(), thread.native_id, child.pid]\n"
        "print([sorted(os.sched_getaffinity(one)) for one in ids])\n"
        "held.set()\n"
        "child.communicate(b'\\n')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == str([[cpu]] * 3)


def test_torch_has_the_device_that_is_told(gpus):
    [found] = locate(SerialWorld(), Launch(devices=["cuda:1"]))
    assert torch.device(found.device) == torch.device("cuda", 1)
