"""Theano-MPI's Python interface: what it refuses, and what it starts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from arignote.config.load import read_file, resolve
from arignote.errors import ArignoteError, UserError
from arignote.launch import placement, session
from arignote.launch.session import ASGD, BSP, EASGD, GOSGD


class Process:
    """In the place of the launcher."""

    code = 0

    def __init__(self, command):
        self.commands.append(command)

    def wait(self):
        return self.code


@pytest.fixture
def started(monkeypatch, tmp_path):
    monkeypatch.setattr(Process, "commands", [], raising=False)
    monkeypatch.setattr(session.subprocess, "Popen", Process)
    monkeypatch.setattr(session.tempfile, "tempdir", str(tmp_path))
    return Process.commands


@pytest.fixture
def net(tmp_path):
    path = tmp_path / "net.py"
    path.write_text("class Net:\n    defaults = {'train.epochs': 4, 'train.steps': 9}\n")
    return str(path)


def test_sync_types():
    with pytest.raises(
        UserError, match=r"unknown sync_type 'cda': did you mean 'cdd'\? known: avg"
    ):
        BSP(sync_type="cda")


def test_wait_before_init():
    with pytest.raises(UserError, match=r"nothing was started: call init\(devices, modelfile, mod"):
        BSP().wait()


@pytest.mark.parametrize(
    ("devices", "modelfile", "modelclass", "more", "message"),
    [
        (["cpu"], "none.py", "Net", {}, r"no file '.*none\.py' for the model"),
        (["cpu"], "no_such_module", "Net", {}, r"no module 'no_such_module' for the model"),
        (["cpu"], "", "Net", {}, r"a model needs a file and a class: got modelfile=''"),
        (["cpu"], "{net}", "Nett", {}, r"net\.py: unknown class 'Nett': did you mean 'Net'"),
        (["gpu0"], "{net}", "Net", {}, r"got device 'gpu0'"),
        (["a:cpu0", "cpu0"], "{net}", "Net", {}, r"2 workers but only 1 slots on 1 hosts"),
        (
            ["cpu"],
            "{net}",
            "Net",
            {"train.epocs": 1},
            r"settings: unknown key in \[train\] 'epocs'",
        ),
        (["cpu"], "{net}", "Net", {"train.epochs": 0}, r"settings: train\.epochs: got 0"),
        (["cpu"], "{net}", "Net", {"epochs": 1}, r"settings: got 'epochs', expected section\.key"),
    ],
)
def test_mistakes_are_found_before_anything_is_started(
    devices, modelfile, modelclass, more, message, net, started
):
    rule = BSP()
    with pytest.raises(UserError, match=message):
        rule.init(devices, modelfile.format(net=net), modelclass, settings=more)
    assert started == []
    with pytest.raises(UserError, match="nothing was started"):
        rule.wait()


def test_a_device_that_is_not_here(net, started, monkeypatch):
    monkeypatch.setattr(placement, "torch_build", lambda: None)
    with pytest.raises(UserError, match=r"device cuda:0 cannot be used on this machine: its torch"):
        BSP().init(["cuda0"], net, "Net")
    assert started == []


def test_an_unknown_exchange(net, started):
    with pytest.raises(UserError, match="unknown exchange 'nccl99'"):
        BSP(exch_strategy="nccl99").init(["cpu"], net, "Net")
    assert started == []


@pytest.mark.parametrize("out", [None, "here"])
def test_what_is_started(net, started, out):
    rule = BSP(sync_type="avg", exch_strategy="ar")
    rule.init(["cpu0", "cpu1"], net, "Net", out=out, settings={"train.epochs": 5})
    [command] = started
    assert command[:5] == [sys.executable, "-m", "arignote", "train", "-c"]
    assert command[6:] == (["--out", out] if out else [])
    config = Path(command[5])
    made = resolve([("", read_file(config))])
    assert made.run.model == f"{net}:Net"
    assert (made.run.rule, made.run.exchange) == ("bsp:scheme=weights", "ar")
    assert (made.launch.workers, made.launch.devices) == (2, ["cpu", "cpu"])
    assert (made.train.epochs, made.train.steps) == (5, 9)
    with pytest.raises(UserError, match="running already"):
        rule.init(["cpu0"], net, "Net")
    rule.wait()
    assert not config.exists()
    with pytest.raises(UserError, match="nothing was started"):
        rule.wait()


def test_a_run_that_failed(net, started, monkeypatch):
    monkeypatch.setattr(Process, "code", 3)
    rule = BSP()
    rule.init(["cpu"], net, "Net")
    with pytest.raises(ArignoteError, match="the run ended with exit code 3"):
        rule.wait()
    assert not Path(started[0][5]).exists()


@pytest.mark.parametrize(
    ("make", "rule", "workers", "servers"),
    [
        (lambda: EASGD(alpha=0.25, period=4), "easgd:alpha=0.25,period=4", 2, 1),
        (lambda: EASGD(), "easgd", 2, 1),
        (lambda: ASGD(staleness="divide"), "asgd:staleness=divide", 2, 1),
        (lambda: GOSGD(p=0.5), "gosgd:p=0.5", 3, None),
    ],
)
def test_asynchronous_rules(make, rule, workers, servers, net, started):
    session = make()
    session.init(["cpu0", "cpu1", "cpu2"], net, "Net")
    made = resolve([("", read_file(Path(started[0][5])))])
    assert made.run.rule == rule
    assert made.run.exchange == "auto"
    assert made.launch.devices == ["cpu"] * workers
    assert (made.launch.workers, made.launch.servers) == (workers, servers)
    session.wait()


def test_the_exchange_of_an_asynchronous_rule(net, started):
    session = EASGD(exch_strategy="asa16", period=3)
    session.init(["cpu0", "cpu1", "cpu2"], net, "Net")
    made = resolve([("", read_file(Path(started[0][5])))])
    assert (made.run.rule, made.run.exchange) == ("easgd:period=3", "asa16")
    session.wait()


def test_mistakes_of_asynchronous_rules(net, started):
    with pytest.raises(UserError, match=r"rule easgd: unknown key 'alhpa': did you mean 'alpha"):
        EASGD(alhpa=1)
    with pytest.raises(UserError, match=r"rule gosgd: p: got '2'"):
        GOSGD(p=2)
    for rule in (EASGD(), ASGD()):
        with pytest.raises(UserError, match=r"'cpu0'.: the first is the server's, and that leaves"):
            rule.init(["cpu0"], net, "Net")
        with pytest.raises(UserError, match=r"1 server for one worker, who meets nobody there"):
            rule.init(["cpu0", "cpu1"], net, "Net")
    assert started == []
