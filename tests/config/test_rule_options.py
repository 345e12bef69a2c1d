"""Rules, exchanges and their options, as they are checked before any process starts."""

from __future__ import annotations

import pytest

from arignote.config.rule_options import (
    EXCHANGE_ALIASES,
    OPTIONS,
    BSPOptions,
    parse_exchange,
    parse_rule,
)
from arignote.errors import UserError
from arignote.registry import CODECS, ROUTES, RULES


def test_every_rule_has_options_with_defaults():
    assert set(OPTIONS) == {entry.name for entry in RULES}
    for entry in RULES:
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
    ],
)
def test_rules_that_are_wrong(text, message):
    with pytest.raises(UserError, match=message) as caught:
        parse_rule(text)
    assert "\n" not in str(caught.value)


def test_options_do_not_change():
    with pytest.raises(ValueError, match="frozen"):
        BSPOptions().scheme = "weights"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("auto", ("allreduce", "fp32")),
        ("ar", ("allreduce", "fp32")),
        ("allreduce", ("allreduce", "fp32")),
        ("allreduce:", ("allreduce", "fp32")),
        ("allreduce:fp32", ("allreduce", "fp32")),
    ],
)
def test_exchanges(text, parts):
    assert parse_exchange(text) == parts


def test_every_route_with_every_codec():
    for route in ROUTES:
        for codec in CODECS:
            assert parse_exchange(f"{route.name}:{codec.name}") == (route.name, codec.name)


def test_every_alias_means_something_known():
    for alias in EXCHANGE_ALIASES:
        route, codec = parse_exchange(alias)
        assert route in ROUTES
        assert codec in CODECS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("allreduc", r"unknown exchange 'allreduc': did you mean 'allreduce'\? known: .*auto"),
        ("", r"unknown exchange '': known: .*allreduce"),
        ("allreduce:fp23", r"unknown codec 'fp23': did you mean 'fp32'\?"),
    ],
)
def test_exchanges_that_are_wrong(text, message):
    with pytest.raises(UserError, match=message):
        parse_exchange(text)
