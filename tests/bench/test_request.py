"""What a bench can be asked for."""

from __future__ import annotations

import json

import pytest

from arignote.bench.request import (
    EXCHANGE_PEERS,
    ExchangeRequest,
    StepRequest,
    default_exchanges,
    parse_elements,
    parse_exchanges,
    parse_peers,
)
from arignote.errors import UserError


def test_elements() -> None:
    assert parse_elements("1000") == [1000]
    assert parse_elements("25_000_000, 10,10,1") == [1, 10, 25_000_000]


@pytest.mark.parametrize("text", ["", "0", "-1", "1,,2", "1e6", "x", "100000000001"])
def test_bad_elements(text: str) -> None:
    with pytest.raises(UserError, match=r"--elements: got '.*', expected whole numbers from 1 to"):
        parse_elements(text)


def test_exchanges_have_full_names_and_come_once() -> None:
    names = parse_exchanges("shm, ar,allreduce:fp32,auto", hosts=1)
    assert names == ["shm:fp32", "allreduce:fp32", "auto"]


@pytest.mark.parametrize(
    ("text", "hosts", "message"),
    [
        ("smh", 1, "unknown exchange 'smh': did you mean 'shm'"),
        ("", 1, "unknown exchange ''"),
        ("k=1", 1, "unknown exchange 'k=1'"),
        ("asa:fp33", 1, "unknown codec 'fp33'"),
        ("auto,shm,k=1", 1, "unknown exchange 'shm,k=1'"),
        ("swap", 1, "swap trades vectors between two workers"),
        ("asa,shm", 2, "shm is memory of one host, and these are 2"),
    ],
)
def test_bad_exchanges(text: str, hosts: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_exchanges(text, hosts=hosts)


def test_peers() -> None:
    assert parse_peers("gloo, mpi,gloo", EXCHANGE_PEERS) == ["gloo", "mpi"]
    assert parse_peers("none", EXCHANGE_PEERS) == parse_peers("", EXCHANGE_PEERS) == []
    with pytest.raises(UserError, match="unknown peer 'glo': did you mean 'gloo'"):
        parse_peers("mpi,glo", EXCHANGE_PEERS)


def test_default_exchanges_suit_the_placement() -> None:
    here = default_exchanges(["a", "a"])
    assert {"allreduce:fp32", "asa:fp32", "shm:fp32", "auto"} <= set(here)
    assert not any(name.startswith(("hier", "pair", "nccl", "ipc")) for name in here)
    apart = default_exchanges(["a", "b"])
    assert set(apart) == set(here) - {"shm:fp32"}
    assert set(default_exchanges(["a", "a", "b"])) == {*apart, "hier:fp32"}


def test_requests_travel_as_json() -> None:
    asked = ExchangeRequest([1, 2], ["shm:fp32"], ["mpi"], 2.0, {"run": {"seed": 1}})
    assert ExchangeRequest(**json.loads(asked.text())) == asked
    step = StepRequest(["ddp"], 3)
    assert StepRequest(**json.loads(step.text())) == step


def test_memory_grows_with_what_is_asked() -> None:
    one = ExchangeRequest([10, 2**28], ["asa:fp32"], [], 1.0)
    assert one.memory_gib(1) == 3
    assert one.memory_gib(4) == 12
    assert ExchangeRequest([2**28], ["asa:fp32", "shm:fp32"], [], 1.0).memory_gib(1) == 4
    assert ExchangeRequest([2**28], [], [], 1.0).memory_gib(1) == 6
