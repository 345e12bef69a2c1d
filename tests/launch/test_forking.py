"""Which workers are forked."""

from __future__ import annotations

import sys

import pytest

from arignote.config.settings import Launch
from arignote.forkserver import stub
from arignote.launch import forking
from arignote.launch.forking import worker_module
from arignote.launch.placement import place

OWN, FORKED = "arignote.worker", "arignote.forkserver.stub"


@pytest.mark.parametrize(
    ("launch", "module"),
    [
        ({"workers": 6}, OWN),
        ({"workers": 7}, FORKED),
        ({"workers": 6, "servers": 1}, FORKED),
        ({"workers": 9, "fork_workers": False}, OWN),
        ({"workers": 2, "fork_workers": True}, FORKED),
        ({"workers": 12, "hosts": ["a:6", "b:6"]}, OWN),
        ({"workers": 12, "hosts": ["a:9", "b:3"]}, FORKED),
    ],
)
def test_many_workers_a_core(monkeypatch, launch, module):
    monkeypatch.setattr(forking, "usable_cores", lambda: 2)
    monkeypatch.setattr(forking.sys, "platform", "linux")
    settings = Launch(**launch)
    assert worker_module(settings, place(settings, centre=None)) == module


def test_elsewhere_than_on_linux(monkeypatch):
    monkeypatch.setattr(forking.sys, "platform", "darwin")
    monkeypatch.setattr(forking, "usable_cores", lambda: 2)
    settings = Launch(workers=64)
    assert worker_module(settings, place(settings, centre=None)) == OWN


@pytest.mark.parametrize("name", ["PMI_FD", "LONG"])
def test_what_no_message_can_bring_over_is_a_worker_itself(monkeypatch, name):
    monkeypatch.setenv(name, "x" * 70_000)
    monkeypatch.setattr(stub, "_connect", lambda address: pytest.fail("it asked for a server"))
    became = []

    def become(file, command):
        became.append(command)
        raise SystemExit

    monkeypatch.setattr(stub.os, "execv", become)
    monkeypatch.setattr(stub.signal, "signal", lambda number, handler: None)
    with pytest.raises(SystemExit):
        stub.main(["run", "--resume"])
    assert became == [[sys.executable, "-m", OWN, "run", "--resume"]]
