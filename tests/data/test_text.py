"""text: what tokens are, where the cut lies, each window once an epoch, and bad files."""

from __future__ import annotations

import numpy as np
import pytest

from arignote.data.open import open_data
from arignote.data.sharding import epoch_order, worker_batch
from arignote.data.text import Text, TextOptions
from arignote.data.vocabulary import BYTES, decode, encode
from arignote.errors import DataError, UserError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "text.txt"


def numbered(path, count, length, validation=0.1):
    """A text whose tokens say where they stand: no character comes twice."""
    path.write_text("".join(chr(0x4E00 + place) for place in range(count)), encoding="utf-8")
    return open_data(f"text:{path},length={length},validation={validation}", "none")


def test_characters(path):
    path.write_bytes("abé\r\nba €!\n".encode() * 10)
    data = open_data(f"text:{path},length=4,validation=0.2", "none")
    assert data.classes == data.vocabulary == ("\n", "\r", " ", "!", "a", "b", "é", "€")
    first = data.train_batch(np.arange(1), seed=0, epoch=0).inputs[0]
    offset = data._offset(seed=0, epoch=0)
    assert decode(first.tolist(), data.vocabulary) == ("abé\r\nba €!\n" * 2)[offset : offset + 4]
    assert encode("€a", data.vocabulary) == [7, 4]
    assert decode(encode("a €!", data.vocabulary), data.vocabulary) == "a €!"


def test_bytes(path):
    content = bytes(range(256)) * 2
    path.write_bytes(content)
    data = open_data(f"text:{path},level=byte,length=8,validation=0.5", "none")
    assert data.classes == data.vocabulary == BYTES
    assert data.validation_batch(np.array([2])).inputs[0].tolist() == list(range(16, 24))
    assert encode("é", BYTES) == [0xC3, 0xA9]
    assert decode([0xC3, 0xA9, 0x21, 0xFF], BYTES) == "é!\ufffd"


def test_many_characters_and_no_more(path):
    data = numbered(path, 1000, 10)
    assert len(data.classes) == 1000
    assert data.validation_batch(np.array([0])).inputs[0].tolist() == list(range(900, 910))


def test_targets_are_the_next_tokens(path):
    data = numbered(path, 400, 7)
    for batch in (
        data.train_batch(np.arange(data.train_size), seed=3, epoch=1),
        data.validation_batch(np.arange(data.validation_size)),
    ):
        assert batch.targets.equal(batch.inputs + 1)


def test_the_first_part_trains_and_the_rest_validates(path):
    data = numbered(path, 400, 7, validation=0.25)
    for epoch in range(20):
        batch = data.train_batch(np.arange(data.train_size), seed=0, epoch=epoch)
        assert batch.targets.max() < 300
    seen = data.validation_batch(np.arange(data.validation_size)).inputs.flatten()
    assert seen.tolist() == list(range(300, 300 + 14 * 7))


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
def test_each_token_once_an_epoch_whatever_the_workers(path, workers):
    data = numbered(path, 1000, 7)
    order = epoch_order(data.train_size, seed=5, epoch=2)
    seen, consumed, batch_size = [], 0, 5
    while consumed < data.train_size:
        for rank in range(workers):
            indices = worker_batch(
                order, consumed=consumed, batch_size=batch_size, rank=rank, workers=workers
            )
            seen += data.train_batch(indices, seed=5, epoch=2).inputs.flatten().tolist()
        consumed += batch_size * workers
    offset = data._offset(seed=5, epoch=2)
    assert sorted(seen) == list(range(offset, offset + data.train_size * 7))
    assert data.train_size == 900 // 7 - 1


def test_every_offset_is_drawn_and_only_from_seed_and_epoch(path):
    data, other = numbered(path, 1000, 7), numbered(path, 1000, 7)
    offsets = [data._offset(seed=1, epoch=epoch) for epoch in range(200)]
    assert set(offsets) == set(range(7))
    assert offsets == [other._offset(seed=1, epoch=epoch) for epoch in range(200)]
    assert offsets != [data._offset(seed=2, epoch=epoch) for epoch in range(200)]


def test_the_shortest_text(path):
    # 8 train, of which 2 windows leave one for any offset; 6 validate, a window and its target.
    data = numbered(path, 14, 4, 0.4)
    assert (data.train_size, data.validation_size) == (1, 1)
    message = r"text.txt: 7 tokens to train on and 6 to validate, expected at least 8 and 5 for win"
    with pytest.raises(DataError, match=message):
        numbered(path, 13, 4, 0.4)
    with pytest.raises(DataError, match=r"8 tokens to train on and 4 to validate, .* smaller leng"):
        numbered(path, 12, 4, 0.33)
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"text.txt: 0 tokens to train on and 0 to validate"):
        Text(path, TextOptions())


def test_a_missing_file(path):
    with pytest.raises(DataError, match=r"text.txt cannot be read \(No such file .*check the path"):
        open_data(f"text:{path}", "none")
    with pytest.raises(DataError, match=r"text.txt cannot be read \(No such file .*check the path"):
        open_data(f"text:{path},level=byte", "none")


def test_no_utf8(path):
    path.write_bytes(b"a" * 1500 + b"\xff" + b"a" * 1500)
    message = r"is not UTF-8: byte 0xff at offset 1,500: convert it, or use level=byte$"
    with pytest.raises(DataError, match=message):
        open_data(f"text:{path}", "none")
    assert open_data(f"text:{path},level=byte", "none").train_size == 41


def test_bad_specs(path):
    path.write_text("a text")
    for options, message in (
        ("length=0", r"data set text: length: got '0', input should be greater than or equal to 1"),
        ("validation=0", r"validation: got '0', input should be greater than 0"),
        ("validation=1", r"validation: got '1', input should be less than 1"),
        ("level=word", r"level: got 'word', input should be 'char' or 'byte'"),
        ("size=3", r"unknown key 'size'"),
    ):
        with pytest.raises(UserError, match=message):
            open_data(f"text:{path},{options}", "none")
    with pytest.raises(UserError, match=r"data set text takes 1 argument, got none: write text:FI"):
        open_data("text:", "none")


def test_an_unknown_character(path):
    data = numbered(path, 400, 7)
    with pytest.raises(UserError, match="'x' is no character of the text that was trained on"):
        encode("x", data.vocabulary)
