"""Whether MPI takes the memory of devices: trials that crash, hang or say no; who is asked."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
import torch

from arignote import accelerator
from arignote.comm import device_buffers
from arignote.comm.base import DeviceBuffers, World
from arignote.comm.device_buffers import TRIAL, ask, learn, outside_of_a_job
from arignote.comm.device_trial import problem_with
from arignote.comm.threads import run_threads, thread_worlds
from arignote.config.exchange_options import CodecOptions
from arignote.exchange.codecs.fp32 import FP32
from arignote.exchange.exchange import Exchange
from arignote.exchange.routes import allreduce
from arignote.exchange.routes.allreduce import Allreduce

CPU = torch.device("cpu")


def says(problem: str) -> str:
    return f"print({TRIAL + json.dumps(problem)!r})"


@pytest.mark.parametrize(
    ("program", "taken", "reason"),
    [
        (says(""), True, "went well"),
        (says("7 came back"), False, "failed: 7 came back"),
        ("import os; os.kill(os.getpid(), 11)", False, "was killed by SIGSEGV"),
        ("import os; os.abort()", False, "was killed by SIGABRT"),
        ("import time; time.sleep(60)", False, "was not done in 1 s"),
        ("1 / 0", False, "ended with exit code 1: ZeroDivisionError: division by zero"),
        ("pass", False, "ended with exit code 0: no word"),
        # It may crash when it leaves: MPI has touched the memory by then.
        (f"{says('')}; raise SystemExit(3)", False, "ended with exit code 3: no word"),
    ],
)
def test_a_trial(program: str, taken: bool, reason: str) -> None:
    seconds = 1.0 if "sleep" in program else 60.0
    answer = ask(CPU, seconds, [sys.executable, "-c", program])
    assert answer == DeviceBuffers(taken, f"a trial with memory of cpu {reason}")


def test_an_mpi_that_says_no_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_buffers, "says_cuda_aware", lambda: False)
    answer = ask(torch.device("cuda:0"), 1.0, ["/nothing/that/could/be/started"])
    assert answer == DeviceBuffers(False, "it says that it takes no memory of GPUs")


def test_a_trial_is_no_part_of_our_job() -> None:
    job = ["PMIX_RANK", "PMI_FD", "OMPI_COMM_WORLD_SIZE", "SLURM_JOB_ID", "HYDI_CONTROL_FD"]
    job += ["OMPI_MCA_ess", "OMPI_MCA_orte_ess_jobid", "ARIGNOTE_WORKERS", "MPI_LOCALRANKID"]
    # How MPI is to carry messages stays: that is what is tried.
    ours = ["PATH", "LD_LIBRARY_PATH", "OMPI_MCA_pml", "UCX_TLS", "CUDA_VISIBLE_DEVICES"]
    kept = outside_of_a_job(dict.fromkeys([*job, *ours], "1"))
    assert set(kept) == {*ours, "OMPI_MCA_ess_singleton_isolated"}


class FakeMPI:
    """A world of `size`, whose messages lose `lost`."""

    def __init__(self, size: int = 1, lost: float = 0.0) -> None:
        self.COMM_WORLD = self.COMM_SELF = self
        self.Get_size = lambda: size
        self.lost = lost

    def Sendrecv(self, sent: Any, to: int, tag: int, arrived: Any, *_: int) -> None:  # noqa: N802
        arrived[:] = sent - self.lost

    def Allreduce(self, sent: Any, total: Any) -> None:  # noqa: N802
        total[:] = sent


def test_what_a_trial_finds() -> None:
    assert problem_with(CPU, FakeMPI()) == ""
    assert problem_with(CPU, FakeMPI(lost=1.0)) == "of 7 numbers others came back than were sent"
    assert problem_with(CPU, FakeMPI(size=2)) == "it joined a world of 2 instead of one of its own"


def answers(
    monkeypatch: pytest.MonkeyPatch, hosts: str, devices: list[str], by: dict[int, DeviceBuffers]
) -> tuple[list[int], list[DeviceBuffers | None]]:
    """(who tried, what each worker was told); workers `by` answer so."""
    asked: list[int] = []
    monkeypatch.setattr(accelerator, "is_one", lambda device: device.type == "meta")

    def work(world: World) -> DeviceBuffers | None:
        def asks(device: torch.device, seconds: float) -> DeviceBuffers:
            asked.append(int(seconds))
            return by[int(seconds)]

        monkeypatch.setattr(device_buffers, "ask", asks)
        # So that a fake knows by whom it is asked.
        world.timeout_seconds = 2.0 * world.rank + 0.5
        return learn(world, torch.device(devices[world.rank]))

    worlds = thread_worlds(len(hosts), hosts=list(hosts), timeout_seconds=60)
    return asked, run_threads(worlds, work)


YES, NO = DeviceBuffers(True, "tried"), DeviceBuffers(False, "it says no")


def test_one_worker_a_host_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, told = answers(monkeypatch, "aabb", ["cpu", "meta", "meta", "meta"], {1: YES, 2: YES})
    assert sorted(asked) == [1, 2]
    assert len(set(told)) == 1
    assert told[0] is not None
    assert told[0].taken
    assert told[0].reason.endswith(": tried")


def test_one_host_that_says_no_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    _, told = answers(monkeypatch, "ab", ["meta", "meta"], {0: YES, 1: NO})
    assert [answer and answer.taken for answer in told] == [False, False]
    assert told[0] is not None
    assert told[0].reason.endswith(" on b: it says no")


def test_nobody_is_asked_about_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, told = answers(monkeypatch, "ab", ["cpu", "cpu"], {})
    assert asked == []
    assert told == [None, None]


@pytest.mark.parametrize(
    ("answer", "how"),
    [(YES, "where they are: tried"), (NO, "by way of pinned host memory: it says")],
)
def test_the_run_says_which_way_and_why(
    monkeypatch: pytest.MonkeyPatch, answer: DeviceBuffers, how: str
) -> None:
    monkeypatch.setattr(accelerator, "is_one", lambda device: device.type == "meta")
    monkeypatch.setattr(allreduce, "ACCELERATOR", "meta")
    (world, _) = thread_worlds(2)
    monkeypatch.setattr(world, "device_buffers", lambda device: answer)
    exchange = Exchange(Allreduce(world), FP32(CodecOptions()))
    vector = exchange.route.allocate(5, torch.float32, torch.device("meta"))
    exchange.prepare([vector], [[torch.Size([5])]])
    assert exchange.report["memory"].startswith(
        f"allreduce:fp32 takes the vectors of devices {how}"
    )
    assert exchange.route.twin(world).devices == exchange.route.devices
