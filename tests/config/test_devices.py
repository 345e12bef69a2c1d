"""Device names, ours and Theano-MPI's."""

from __future__ import annotations

import pytest

from arignote.config.devices import parse_device
from arignote.errors import UserError


@pytest.mark.parametrize(
    ("text", "device"),
    [
        ("cpu", "cpu"),
        ("cpu0", "cpu"),
        ("cpu:3", "cpu"),
        ("cuda", "cuda"),
        ("cuda0", "cuda:0"),
        ("cuda:1", "cuda:1"),
        ("cuda12", "cuda:12"),
        (" cuda:1 ", "cuda:1"),
    ],
)
def test_known_names(text, device):
    assert parse_device(text) == device


@pytest.mark.parametrize("text", ["", "gpu", "gpu0", "cuda:", "cuda:-1", "cuda:x", "CUDA", "xcpu"])
def test_anything_else_is_named_in_the_message(text):
    with pytest.raises(UserError) as caught:
        parse_device(text)
    assert str(caught.value) == f"got device {text!r}, expected cpu, cuda or cuda:N (as in cuda:0)"
