"""Specs: `name:argument,key=value`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from arignote.config.spec import Spec, parse_options, parse_spec
from arignote.errors import UserError

WORD = st.text(alphabet="abcdefghij0123456789_-./", min_size=1)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("bsp", Spec("bsp")),
        ("bsp:", Spec("bsp")),
        (" bsp :scheme=weights", Spec("bsp", (), {"scheme": "weights"})),
        ("imagefolder:/d,skip_bad=true", Spec("imagefolder", ("/d",), {"skip_bad": "true"})),
        ("synthetic:3x32x32,10", Spec("synthetic", ("3x32x32", "10"))),
        ("a:b=c=d", Spec("a", (), {"b": "c=d"})),
        ("a: b = c ,,d", Spec("a", ("d",), {"b": "c"})),
        ("data:/with:colon", Spec("data", ("/with:colon",))),
        ("a:b=", Spec("a", (), {"b": ""})),
    ],
)
def test_parts(text, spec):
    assert parse_spec(text) == spec
    assert parse_spec(str(spec)) == spec


@pytest.mark.parametrize("text", ["", ":", "  ", ":a=b"])
def test_a_spec_needs_a_name(text):
    with pytest.raises(UserError, match=r"expected name\[:argument\]\[,key=value...\]") as caught:
        parse_spec(text)
    assert repr(text) in str(caught.value)


def test_an_option_given_twice():
    with pytest.raises(UserError, match="'a:b=1,b=2' gives 'b' twice: keep one"):
        parse_spec("a:b=1,b=2")


@given(WORD, st.lists(WORD), st.dictionaries(WORD, WORD))
def test_what_is_joined_is_split_again(name, arguments, options):
    parts = [*arguments, *(f"{key}={value}" for key, value in options.items())]
    assert parse_spec(f"{name}:{','.join(parts)}") == Spec(name, tuple(arguments), options)


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")

    size: int = 3
    skip: bool = False


def test_options_are_read_from_text():
    options = parse_options(Options, parse_spec("x:size=7,skip=true"), "thing x")
    assert options == Options(size=7, skip=True)
    assert parse_options(Options, parse_spec("x"), "thing x") == Options()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x:sice=7", r"thing x: unknown key 'sice': did you mean 'size'\? known: size, skip"),
        ("x:size=big", r"thing x: size: got 'big', input should be a valid integer"),
        ("x:skip=perhaps", r"thing x: skip: got 'perhaps', input should be a valid boolean"),
    ],
)
def test_options_that_are_wrong(text, message):
    with pytest.raises(UserError, match=message) as caught:
        parse_options(Options, parse_spec(text), "thing x")
    assert "\n" not in str(caught.value)
