"""`train.mix`, as it is checked before any process starts."""

from __future__ import annotations

import pytest

from arignote.config.load import resolve
from arignote.config.mix_options import Mix, parse_mix
from arignote.config.settings import Train
from arignote.errors import UserError


def test_names_and_alphas():
    assert parse_mix("none") is None
    assert parse_mix("mixup") == Mix("mixup", 0.2)
    assert parse_mix("cutmix") == Mix("cutmix", 1.0)
    assert parse_mix("mixup:alpha=3") == Mix("mixup", 3.0)
    assert Train().mix == "none"
    assert Train(mix="cutmix:alpha=0.5").mix == "cutmix:alpha=0.5"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mixdown", r"unknown mix 'mixdown': did you mean 'mixup'\? known: cutmix, mixup, none"),
        ("", r"got '', expected name\[:argument\]\[,key=value...\]"),
        ("mixup+cutmix", r"unknown mix 'mixup\+cutmix'"),
        ("none:alpha=1", r"mix none:alpha=1: none has no options: leave them out"),
        ("mixup:0.2", r"mix mixup: got '0.2', expected key=value; keys: alpha"),
        ("cutmix:beta=1", r"mix cutmix: unknown key 'beta': .*known: alpha"),
        ("cutmix:alpha=0", r"mix cutmix: alpha: got '0', input should be greater than 0"),
        ("mixup:alpha=inf", r"mix mixup: alpha: got 'inf', input should be a finite number"),
        ("mixup:alpha=x", r"mix mixup: alpha: got 'x', input should be a valid number"),
    ],
)
def test_mistakes_are_told_in_one_line(text, message):
    with pytest.raises(UserError, match=message) as caught:
        parse_mix(text)
    assert "\n" not in str(caught.value)


def test_the_setting_is_named():
    with pytest.raises(UserError, match=r"here: train\.mix: got 'mix', unknown mix 'mix'"):
        resolve([("here", {"train": {"mix": "mix"}})])
