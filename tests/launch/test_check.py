"""Mistakes in a run's settings, told before a process is started."""

from __future__ import annotations

import pytest

from arignote.config.load import resolve
from arignote.errors import UserError
from arignote.launch.check import check


def settings(**sections):
    return resolve([("", sections)])


@pytest.mark.parametrize(
    "run",
    [
        {"model": "digits-mlp", "data": "digits"},
        {"model": "cifar10-cnn", "data": "imagefolder:/"},
        {"model": "digits-mlp", "data": "digits", "rule": "bsp:scheme=weights", "exchange": "ar"},
    ],
)
def test_good_settings(run):
    check(settings(run=run))


def test_a_file_may_bring_its_own_data(tmp_path):
    (tmp_path / "net.py").write_text("class Net:\n    pass\n")
    check(settings(run={"model": f"{tmp_path / 'net.py'}:Net"}))


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ({}, r"no model given"),
        ({"model": "digits-mpl"}, r"unknown model 'digits-mpl'"),
        ({"model": "none.py:Net"}, r"no file '.*none\.py'"),
        ({"model": "digits-mlp", "rule": "bps"}, r"unknown rule 'bps': did you mean 'bsp'"),
        ({"model": "digits-mlp", "rule": "bsp:scheme=x"}, r"rule bsp: scheme: got 'x'"),
        ({"model": "digits-mlp", "exchange": "ring9"}, r"unknown exchange 'ring9'"),
        ({"model": "digits-mlp", "exchange": "ar:fp32"}, r"unknown exchange 'ar:fp32'"),
        ({"model": "digits-mlp", "exchange": "allreduce:x"}, r"unknown codec 'x'"),
        (
            {"model": "digits-mlp", "data": "digit"},
            r"unknown data set 'digit': did you mean 'digits",
        ),
        ({"model": "cifar10-cnn"}, r"cifar10-cnn brings no data of its own: name some with --data"),
    ],
)
def test_every_mistake_is_found(run, message):
    with pytest.raises(UserError, match=message):
        check(settings(run=run))


@pytest.mark.parametrize(
    ("optimizer", "own"),
    [
        ({"momentum": 0.9}, r"\(sgd\) has momentum 0\.9 of its own"),
        ({"name": "adamw"}, r"\(adamw\) has moments of its own"),
        ({}, None),
    ],
)
def test_one_momentum_is_enough(optimizer, own):
    run = {"model": "digits-mlp", "data": "digits", "rule": "easgd:momentum=0.9"}
    asked = settings(run=run, optimizer=optimizer)
    if own is None:
        check(asked)
        return
    with pytest.raises(UserError, match=rf"^easgd:momentum=0\.9 brings a momentum, and .*{own}"):
        check(asked)
