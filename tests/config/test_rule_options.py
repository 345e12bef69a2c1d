"""Rules and their options, as they are checked before any process starts."""

from __future__ import annotations

import pytest

from arignote.config.rule_options import OPTIONS, TWO_LEVEL, BSPOptions, parse_rule
from arignote.errors import UserError
from arignote.registry import RULES


def test_every_rule_has_options_with_defaults():
    assert set(OPTIONS) == {entry.name for entry in RULES}
    for entry in RULES:
        if entry.name == TWO_LEVEL:
            continue
        assert parse_rule(entry.name) == (entry.name, OPTIONS[entry.name]())


def test_bsp_schemes():
    assert parse_rule("bsp") == ("bsp", BSPOptions(scheme="gradient"))
    assert parse_rule("bsp:scheme=weights") == ("bsp", BSPOptions(scheme="weights"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bps", r"unknown rule 'bps': did you mean 'bsp'\? known: .*bsp"),
        ("", r"got '', expected name\[:argument\]"),
        ("bsp:weights", r"rule bsp: got 'weights', expected key=value; keys: scheme"),
        ("bsp:schem=weights", r"rule bsp: unknown key 'schem': did you mean 'scheme'\?"),
        ("bsp:scheme=w", r"rule bsp: scheme: got 'w', input should be 'gradient' or 'weights'"),
        ("bsp:scheme=weights,scheme=gradient", r"gives 'scheme' twice: keep one"),
        ("bsp:sharded=yes", r"sharded: got 'yes', input should be 'auto', 'on' or 'off'"),
        ("bsp:overlap=1", r"overlap: got '1', input should be 'auto', 'on' or 'off'"),
        (
            "bsp:sharded=on,overlap=on",
            r"rule bsp: .*sharded=on and overlap=on exclude each other: .*; choose one",
        ),
        (
            "bsp:scheme=weights,sharded=on",
            r"rule bsp: .*sharded=on goes with scheme=gradient only: leave it out",
        ),
        (
            "bsp:scheme=weights,overlap=on",
            r"rule bsp: .*overlap=on goes with scheme=gradient only: leave it out",
        ),
    ],
)
def test_rules_that_are_wrong(text, message):
    with pytest.raises(UserError, match=message) as caught:
        parse_rule(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("bsp", ("gradient", "auto", "auto")),
        ("bsp:sharded=on", ("gradient", "on", "auto")),
        ("bsp:sharded=on,overlap=off", ("gradient", "on", "off")),
        ("bsp:overlap=on,sharded=off", ("gradient", "off", "on")),
        ("bsp:scheme=weights,sharded=off,overlap=off", ("weights", "off", "off")),
    ],
)
def test_sharded_and_overlap(text, values):
    scheme, sharded, overlap = values
    assert parse_rule(text) == (
        "bsp",
        BSPOptions(scheme=scheme, sharded=sharded, overlap=overlap),
    )


def test_options_do_not_change():
    with pytest.raises(ValueError, match="frozen"):
        BSPOptions().scheme = "weights"


def test_a_sharded_update_inside_hosts_is_refused():
    with pytest.raises(
        UserError, match=r"^rule bsp:sharded=on/diloco: bsp:sharded=on cannot be inside hosts"
    ):
        parse_rule("bsp:sharded=on/diloco")
