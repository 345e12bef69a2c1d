"""The whole check, with hosts that answer as told."""

from __future__ import annotations

from typing import Any

import pytest

from arignote.bench.link_report import Device, Link, LinkReport, Rank
from arignote.config.settings import Launch
from arignote.errors import ArignoteError, UserError
from arignote.launch.find import NO_MPI
from arignote.launch.hostcheck import examine
from arignote.launch.hostcheck.examine import examine_hosts, in_order


@pytest.fixture
def lab(monkeypatch, hosts):
    """`lab.answers` and `lab.report` are what comes; `lab.jobs` what was started."""

    class Lab:
        answers: dict[str, Any] = hosts({}, {})
        report: Any = None
        jobs: list[Launch] = []  # noqa: RUF012
        asked: list[list[str]] = []  # noqa: RUF012

    lab = Lab()
    lab.jobs, lab.asked = [], []

    def ask(names, shell, environment, timeout_seconds, *, otherwise):
        lab.asked.append(list(names))
        return {name: lab.answers[name] for name in names}

    def measure(settings, nodes, timeout_seconds, seconds):
        lab.jobs.append(settings)
        if isinstance(lab.report, Exception):
            raise lab.report
        return lab.report

    monkeypatch.setattr(examine, "ask_hosts", ask)
    monkeypatch.setattr(examine, "measure_links", measure)
    monkeypatch.setattr(examine, "named_interfaces", lambda settings: [])
    lab.report = report(["h0", "h1"])
    return lab


def report(nodes, *, mbit=940.0, clock=0.0, left_out=0, devices=()):
    ranks = [Rank(node=node, cuda_aware=True, devices=list(devices)) for node in nodes]
    one = Link(
        first=0, second=1, there_mbit=mbit, back_mbit=mbit, latency_us=50.0, clock_seconds=clock
    )
    return LinkReport(ranks=ranks, links=[one], left_out=left_out)


def check(*hosts, **settings):
    made = Launch(hosts=list(hosts), workers=max(1, len(hosts)), threads=1, **settings)
    return examine_hosts(made, timeout_seconds=8.0, seconds=20.0)


def test_good_hosts(lab, capsys):
    gpu = Device(name="H100", free_gib=79.0, gib=80.0)
    lab.report = report(["h1", "h0"], clock=0.5, devices=[gpu])
    found = check("h0:2", "h1:2")
    assert found.advice == []
    assert [(link.first, link.second) for link in found.links] == [("h1", "h0")]
    # Rank 0 was on h1, whose clock is behind.
    assert [facts.clock_seconds for facts in found.hosts.values()] == [0.0, -0.5]
    assert [facts.cuda_aware for facts in found.hosts.values()] == [True, True]
    assert found.hosts["h1"].devices == [gpu]
    assert lab.jobs[0].hosts == ["h0:1", "h1:1"]
    assert capsys.readouterr().err == "arignote: measuring the links between 2 hosts\n"


def test_a_host_that_does_not_answer(lab):
    lab.answers = {**lab.answers, "h1": "h1 is on fire"}
    found = check("h0", "h1")
    assert found.hosts["h1"] is None
    assert found.advice == [
        "h1 is on fire",
        "the links were not measured: all hosts must answer first",
    ]
    assert lab.jobs == []


def test_versions_that_cannot_meet(lab, hosts):
    lab.answers = hosts({}, {"mpi": "MPICH 5"})
    advice = check("h0", "h1").advice
    assert advice == [
        "the links were not measured: every host needs one and the same MPI, and our packages",
        "h1: mpi4py loads MPICH 5, on h0 Open MPI v5.0.11: install or load one MPI on all hosts",
    ]
    assert lab.jobs == []


@pytest.mark.parametrize("error", [ArignoteError("h1 left"), UserError(NO_MPI)])
def test_a_job_that_fails(lab, error):
    lab.report = error
    found = check("h0", "h1")
    assert found.advice == [f"the links were not measured: {error}"]
    assert found.hosts["h1"].cuda_aware is None


def test_slow_links_and_links_without_time(lab):
    lab.report = report(["h0", "h1"], mbit=10.0, left_out=2)
    found = check("h0", "h1")
    # That the time was over is no fault of the hosts.
    assert found.links_left_out == 2
    [line] = found.advice
    assert line.startswith("h0 - h1: 10 Mbit/s, less than 500: ")


def test_one_host_has_no_links(lab):
    assert check("h0").advice == []
    assert lab.jobs == []


def test_the_nodes_of_an_allocation(lab, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "h[0-1]")
    # All of them, however few workers there are.
    assert list(check().hosts) == ["h0", "h1"]
    assert list(check("h1").hosts) == ["h1"]


def test_no_hosts(lab):
    with pytest.raises(UserError, match="no hosts to check: name them with --hosts A:2,B:2 or"):
        check()


def test_too_few_slots(lab):
    settings = Launch(hosts=["h0:1", "h1:1"], workers=3)
    with pytest.raises(UserError, match="3 workers but only 2 slots on 2 hosts: use -n 2"):
        examine_hosts(settings, timeout_seconds=8.0, seconds=20.0)
    assert lab.asked == []


def test_ranks_are_told_apart_by_their_nodes():
    assert in_order(["a", "b"], ["x", "y"], ["y", "x"]) == ["b", "a"]
    # Containers that all have one name: then the launcher's order is all there is.
    assert in_order(["a", "b"], ["x", "x"], ["x", "x"]) == ["a", "b"]
