"""What `--exchange` may say: every alias, every route with every codec, every refusal."""

from __future__ import annotations

import pytest

from arignote.config.exchange_options import (
    AUTO,
    CODEC_OPTIONS,
    EXCHANGE_ALIASES,
    ROUTE_CODECS,
    WEIGHT_CODECS,
    CodecOptions,
    ExchangeSpec,
    PowerSGDOptions,
    TopKOptions,
    check_fits_rule,
    check_placement,
    parse_exchange,
)
from arignote.errors import UserError
from arignote.registry import CODECS, ROUTES

PAIRS = [
    pytest.param(route, codec.name, id=f"{route}:{codec.name}")
    for route, carried in ROUTE_CODECS.items()
    for codec in CODECS
    if codec.name in carried
]
REFUSED = [
    pytest.param(route, codec.name, id=f"{route}:{codec.name}")
    for route, carried in ROUTE_CODECS.items()
    for codec in CODECS
    if codec.name not in carried
]


def test_every_route_says_what_it_carries():
    assert set(ROUTE_CODECS) == {entry.name for entry in ROUTES}
    for carried in ROUTE_CODECS.values():
        assert "fp32" in carried


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("auto", "auto"),
        ("allreduce", "allreduce:fp32"),
        ("allreduce:", "allreduce:fp32"),
        ("allreduce:fp32", "allreduce:fp32"),
        ("shm", "shm:fp32"),
        ("asa:fp32", "asa:fp32"),
        ("hier", "hier:fp32"),
        ("ar", "allreduce:fp32"),
        ("asa32", "asa:fp32"),
        ("nccl32", "nccl:fp32"),
        ("copper", "hier:fp32"),
        ("swap", "pair:fp32"),
    ],
)
def test_exchanges(text, name):
    spec = parse_exchange(text)
    assert spec.name == name
    assert parse_exchange(spec.name) == spec


def test_auto_has_a_route_and_no_codec_of_its_own():
    assert parse_exchange("auto") == ExchangeSpec(AUTO, "fp32", CodecOptions())


@pytest.mark.parametrize(("route", "codec"), PAIRS)
def test_every_route_with_every_codec_it_carries(route, codec):
    spec = parse_exchange(f"{route}:{codec}")
    options = CODEC_OPTIONS.get(codec, CodecOptions)()
    assert spec == ExchangeSpec(route, codec, options)
    assert spec.name == f"{route}:{codec}"


@pytest.mark.parametrize(("route", "codec"), REFUSED)
def test_every_route_with_every_codec_it_does_not_carry(route, codec):
    reason = rf"{route} cannot carry {codec}: .*; use asa:{codec}, or {route} with fp32"
    with pytest.raises(UserError, match=reason) as caught:
        parse_exchange(f"{route}:{codec}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("alias", "full"), EXCHANGE_ALIASES.items())
def test_every_alias_means_something_known(alias, full):
    route, _, codec = full.partition(":")
    assert route in ROUTES
    assert codec in ROUTE_CODECS[route]
    if codec in CODECS:
        assert parse_exchange(alias) == parse_exchange(full)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "allreduc",
            r"unknown exchange 'allreduc': did you mean 'allreduce'\? known: .*auto.*swap",
        ),
        ("", r"unknown exchange '': known: .*allreduce"),
        ("asa:fp23", r"unknown codec 'fp23': did you mean 'fp32'\?"),
        ("asa:fp32,k=1", r"codec fp32 takes no options, got 'k=1'"),
        ("asa:fp32,k", r"codec fp32: got 'k', expected key=value; keys: none"),
        ("asa:fp32,k=1,k=2", r"gives 'k' twice: keep one"),
        ("auto:fp32", r"auto takes no codec, got 'auto:fp32'"),
    ],
)
def test_exchanges_that_are_wrong(text, message):
    with pytest.raises(UserError, match=message) as caught:
        parse_exchange(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("asa:topk", TopKOptions()),
        ("asa:topk,k=0.001", TopKOptions(k=0.001)),
        ("asa:topk,k=500,momentum=0.9", TopKOptions(k=500, momentum=0.9)),
        ("asa:powersgd", PowerSGDOptions()),
        ("hier:powersgd,rank=2", PowerSGDOptions(rank=2)),
    ],
)
def test_options(text, options):
    spec = parse_exchange(text)
    assert spec.options == options
    # A name says what differs from the defaults, and says it so that it can be read back.
    assert spec.name == text
    assert parse_exchange(spec.name) == spec


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("asa:topk,k=0", r"codec topk: k: got '0'"),
        ("asa:topk,k=inf", r"codec topk: k: got 'inf'"),
        ("asa:topk,momentum=1", r"codec topk: momentum: got '1'"),
        ("asa:topk,rank=1", r"codec topk: unknown key 'rank'"),
        ("asa:topk,0.1", r"codec topk: got '0.1', expected key=value; keys: k, momentum"),
        ("asa:powersgd,rank=0", r"codec powersgd: rank: got '0'"),
        ("asa:powersgd,rank=2.5", r"codec powersgd: rank: got '2.5'"),
    ],
)
def test_options_that_are_wrong(text, message):
    with pytest.raises(UserError, match=message) as caught:
        parse_exchange(text)
    assert "\n" not in str(caught.value)


def test_options_do_not_change():
    with pytest.raises(ValueError, match="frozen"):
        TopKOptions().k = 1.0


@pytest.mark.parametrize(
    ("text", "devices", "hosts"),
    [
        ("auto", [], 1),
        ("auto", [], 3),
        ("allreduce", [], 2),
        ("asa", [], 2),
        ("shm", [], 1),
        ("shm", ["cuda:0", "cuda:1"], 1),
        ("hier", [], 1),
        ("hier", [], 2),
        ("pair", ["cpu", "cpu"], 2),
        ("nccl", ["cuda:0", "cuda:1"], 1),
        # Whether their host has so many, only it can tell.
        ("nccl", ["cuda", "cuda"], 1),
        ("nccl", ["cuda"], 1),
        # The same number on two hosts is not the same GPU.
        ("nccl", ["cuda:0", "cuda:0"], 2),
        ("ipc", ["cuda:0", "cuda:0"], 1),
    ],
)
def test_placements(text, devices, hosts):
    check_placement(parse_exchange(text), devices=devices, hosts=hosts)


@pytest.mark.parametrize(
    ("text", "devices", "hosts", "message"),
    [
        (
            "shm",
            [],
            2,
            r"shm is memory of one host, and these are 2: use hier:fp32 .*, or asa:fp32",
        ),
        ("ipc", ["cuda:0"] * 2, 2, r"ipc is memory of the GPUs of one host, .* 2 hosts: use nccl"),
        ("ipc", [], 1, r"ipc needs every worker on a GPU \(--devices .*\): on CPUs use shm:fp32"),
        ("nccl", [], 1, r"nccl needs every worker on a GPU .*: on CPUs use shm:fp32"),
        ("nccl", ["cpu"] * 2, 2, r"nccl needs every worker on a GPU .*: on CPUs use asa:fp32"),
        ("nccl", ["cuda:0", "cpu"], 1, r"nccl needs every worker on a GPU"),
        ("nccl", ["cuda:0"] * 2, 1, r"nccl cannot serve two workers on one GPU: use ipc:fp32 or"),
    ],
)
def test_placements_that_are_wrong(text, devices, hosts, message):
    with pytest.raises(UserError, match=message) as caught:
        check_placement(parse_exchange(text), devices=devices, hosts=hosts)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("codec", [entry.name for entry in CODECS])
def test_which_codecs_carry_weights(codec):
    spec = parse_exchange(f"asa:{codec}")
    check_fits_rule(spec, "bsp", "gradients")
    if codec in WEIGHT_CODECS:
        check_fits_rule(spec, "easgd", "weights")
    else:
        message = rf"easgd exchanges weights, and {codec} only suits gradients.*: use asa:fp16, or"
        with pytest.raises(UserError, match=message):
            check_fits_rule(spec, "easgd", "weights")


def test_pair_trades_and_does_not_average():
    spec = parse_exchange("swap")
    check_fits_rule(spec, "bsp", "weights")
    with pytest.raises(UserError, match=r"pair trades vectors and bsp needs their mean: use "):
        check_fits_rule(spec, "bsp", "gradients")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("auto:fp16", r"auto takes no codec, got 'auto:fp16': .* such as asa:fp16"),
        ("asa:topk,k=1.5", r"codec topk: k: .*a fraction below 1, or a whole number of elements"),
        ("asa:fp32,foo=1", r"codec fp32 takes no options, got 'foo=1': use fp32 alone"),
    ],
)
def test_options_that_say_nothing(text, message):
    with pytest.raises(UserError, match=message) as caught:
        parse_exchange(text)
    assert "\n" not in str(caught.value)
