"""What the benches of rules are asked for."""

from __future__ import annotations

import json

import pytest

from arignote.bench.rule_request import (
    CentreRequest,
    StragglerRequest,
    check_slow,
    check_window,
    one_size,
    parse_centre_rule,
    parse_rules,
)
from arignote.errors import UserError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bsp", ["bsp"]),
        ("bsp,easgd,bsp", ["bsp", "easgd"]),
        ("easgd:period=4,alpha=0.3,gosgd", ["easgd:period=4,alpha=0.3", "gosgd"]),
        ("bsp, adpsgd:period=2", ["bsp", "adpsgd:period=2"]),
        ("bsp/diloco:period=5,local-sgd:period=2", ["bsp/diloco:period=5", "local-sgd:period=2"]),
    ],
)
def test_rules(text: str, expected: list[str]) -> None:
    assert parse_rules(text, "auto", hosts=1) == expected


def test_rules_of_a_centre() -> None:
    assert parse_centre_rule("easgd", 7) == "easgd:period=7"
    assert parse_centre_rule("easgd:alpha=0.9", 7) == "easgd:alpha=0.9,period=7"
    assert parse_centre_rule("asgd:staleness=divide", 1) == "asgd:staleness=divide,period=1"


def test_limits_themselves_are_allowed() -> None:
    assert (check_slow(1), check_slow(1000)) == (1, 1000)
    assert check_window(4.0, 10, 0.1) == 4.0
    assert one_size("1_000") == 1000


def test_a_window_that_is_too_short() -> None:
    with pytest.raises(UserError, match=r"--seconds: got 3.9, expected at least 4: 4 periods of"):
        check_window(3.9, 10, 0.1)


def test_requests_travel_as_json() -> None:
    straggler = StragglerRequest(["bsp"], "auto", 10, 2.0, 0.01, 1.0, {"run": {"seed": 1}})
    assert StragglerRequest(**json.loads(straggler.text())) == straggler
    centre = CentreRequest("easgd:period=2", 10, 2, 0.01, 1.0)
    assert CentreRequest(**json.loads(centre.text())) == centre


def test_memory_of_a_centre() -> None:
    # A GiB a vector: four of each worker, and the centre.
    assert CentreRequest("easgd", 2**28, 10, 0.1, 1.0).memory_gib(2) == 9
