"""Device names, ours and Theano-MPI's."""

from __future__ import annotations

import pytest

from arignote.config.devices import (
    any_accelerator,
    count_workers,
    device_of,
    number_of,
    parse_device,
    same_for_all,
)
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


@pytest.mark.parametrize(
    ("devices", "same", "counted"),
    [
        ([], False, False),
        (["cuda"], True, False),
        (["cpu0"], True, False),
        (["cuda:0"], False, True),
        (["cuda", "cuda"], False, True),
    ],
)
def test_one_device_for_all_workers(devices, same, counted):
    assert same_for_all(devices) is same
    assert count_workers(devices) is counted


def test_what_is_no_list_of_devices_counts_nothing():
    assert not count_workers("cuda:0")
    assert not count_workers([1])
    assert not count_workers(None)


def test_the_device_of_a_worker():
    assert [device_of(["cuda0", "cpu"], rank) for rank in (0, 1)] == ["cuda:0", "cpu"]
    assert [device_of(["cuda"], rank) for rank in (0, 7)] == ["cuda", "cuda"]
    assert device_of([], 5) == "cpu"
    assert any_accelerator(["cpu", "cuda1"])
    assert not any_accelerator(["cpu"])
    assert not any_accelerator([])


@pytest.mark.parametrize(
    ("devices", "neighbours", "visible", "numbers"),
    [
        # Two hosts of four workers, two GPUs in each.
        (["cuda"], (0, 1, 2, 3), 2, [0, 1, 0, 1]),
        (["cuda"], (4, 5, 6, 7), 2, [0, 1, 0, 1]),
        # The launcher went round the hosts.
        (["cuda"], (1, 3, 5), 4, [0, 1, 2]),
        # A scheduler shows each worker a GPU of its own.
        (["cuda"], (0, 1, 2, 3), 1, [0, 0, 0, 0]),
        # Who is on the CPU takes no number, and a number is a number.
        (["cuda", "cpu", "cuda", "cuda:3"], (0, 2, 3), 2, [0, 1, 3]),
    ],
)
def test_the_number_of_a_gpu(devices, neighbours, visible, numbers):
    found = [number_of(devices, r, neighbours=neighbours, visible=visible) for r in neighbours]
    assert found == numbers
