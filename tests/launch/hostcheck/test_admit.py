"""Which hosts are asked before a start, and what refuses it."""

from __future__ import annotations

import pytest

from arignote.config.settings import Launch
from arignote.errors import UserError
from arignote.launch.allocation import Allocation
from arignote.launch.ending import reason
from arignote.launch.hostcheck import admit
from arignote.launch.hostcheck.admit import admit_hosts
from arignote.launch.hosts import Host
from arignote.launch.supervise import Outcome

FAR = ["h0:1", "h1:1"]


@pytest.fixture
def answers(monkeypatch, hosts):
    """What comes, by host; `answers.asked`: of whom, how, and for how long."""

    class Answers(dict):
        asked = []  # noqa: RUF012

    answers = Answers(hosts({}, {}))
    answers.asked = []

    def ask(names, shell, environment, timeout_seconds, *, otherwise):
        answers.asked.append((list(names), shell.slurm, timeout_seconds, environment))
        return {name: answers[name] for name in names}

    monkeypatch.setattr(admit, "ask_hosts", ask)
    monkeypatch.setattr(admit, "is_here", lambda host: host == "localhost")
    monkeypatch.setattr(admit, "find_allocation", lambda: None)
    monkeypatch.setattr(admit, "named_interfaces", lambda settings: [])
    return answers


def admitted(hosts=FAR, environment=None, **changes):
    settings = Launch(hosts=list(hosts), workers=2, **changes)
    admit_hosts(settings, environment or {})


def test_hosts_that_are_alike_are_asked_once_and_admitted(answers):
    admitted(environment={"MINE": "1"}, start_timeout_seconds=8)
    assert answers.asked == [(["h0", "h1"], False, 8, {"MINE": "1"})]


def test_a_host_may_not_take_longer_than_a_minute(answers):
    admitted()
    assert answers.asked[0][2] == 60


def test_one_fault(answers):
    answers["h1"] = "h1 is on fire"
    with pytest.raises(UserError, match=r"^h1 is on fire$"):
        admitted()


def test_nobody_answers(answers):
    answers |= {"h0": "h0 is away", "h1": "h1 is away"}
    told = r"^h0 is away \(and 1 more: arignote doctor --hosts h0,h1\)$"
    with pytest.raises(UserError, match=told):
        admitted()


def test_another_version(answers, hosts):
    answers["h1"] = hosts({}, {"packages": {"torch": "2.0"}})["h1"]
    with pytest.raises(UserError, match=r"^h1 has torch 2.0, h0 has 1.0: pip install torch==1.0"):
        admitted()


def test_what_differs_and_does_no_harm(answers, hosts):
    answers["h1"] = hosts({}, {"cores": 1, "clock_seconds": 9.0})["h1"]
    admitted()


def test_an_interface_that_is_not_there(answers, monkeypatch):
    monkeypatch.setattr(admit, "named_interfaces", lambda settings: [("HYDRA_IFACE", ["ib0"])])
    with pytest.raises(UserError, match=r"^h0, h1 have no interface ib0, which HYDRA_IFACE names"):
        admitted()


def test_hosts_of_a_file(answers, tmp_path):
    (tmp_path / "hosts").write_text("h0 slots=2\nh1\n")
    admitted([], hostfile=str(tmp_path / "hosts"))
    assert answers.asked[0][0] == ["h0", "h1"]


@pytest.mark.parametrize(
    ("named", "changes"),
    [([], {}), (["localhost:2"], {}), (FAR, {"check_hosts": False})],
)
def test_nobody_is_asked(answers, named, changes):
    admitted(named, **changes)
    assert answers.asked == []


@pytest.mark.parametrize(("scheduler", "asked"), [("Slurm", [True]), ("LSF", []), ("PBS", [])])
def test_named_hosts_in_an_allocation(answers, monkeypatch, scheduler, asked):
    # Of LSF and PBS it is not known that ssh leads there.
    job = Allocation(scheduler, "7", (Host("h0", 1), Host("h1", 1)))
    monkeypatch.setattr(admit, "find_allocation", lambda: job)
    admitted()
    assert [by_srun for _, by_srun, *_ in answers.asked] == asked


def test_whoever_is_silent_when_workers_do_not_come_is_named(answers, tmp_path):
    settings = Launch(hosts=FAR, workers=2, start_timeout_seconds=3)
    overdue = Outcome(-15, overdue=True)
    assert reason(overdue, tmp_path, settings).endswith("run `arignote doctor --hosts h0:1,h1:1`")
    answers["h1"] = "h1 did not answer"
    assert reason(overdue, tmp_path, settings) == (
        "h1 did not answer; the 2 workers did not come together within 3 s "
        "(launch.start_timeout_seconds)"
    )
    assert answers.asked[-1][2] == 10
