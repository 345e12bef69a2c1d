"""events.jsonl: appended to, followed while it grows, read in spite of damage."""

from __future__ import annotations

import json
import time

import pytest

from arignote.recorder.events import EVENTS_FILE, EventLog, EventTail, read_events


@pytest.fixture
def log(tmp_path):
    made = EventLog(tmp_path)
    yield made
    made.close()


def append(folder, raw):
    with (folder / EVENTS_FILE).open("ab") as file:
        file.write(raw)


def kinds(events):
    return [event["event"] for event in events]


def test_what_is_written_is_read(log, tmp_path):
    before = time.time()
    log.write("step", step=3, loss=0.5, seconds={"calc": 1.0}, note="Ünï\n")
    [event] = read_events(tmp_path)
    assert before <= event.pop("time") <= time.time()
    assert event == {
        "event": "step",
        "step": 3,
        "loss": 0.5,
        "seconds": {"calc": 1.0},
        "note": "Ünï\n",
    }
    assert len((tmp_path / EVENTS_FILE).read_text().splitlines()) == 1


def test_a_second_log_appends(log, tmp_path):
    log.write("start")
    other = EventLog(tmp_path)
    other.write("resume")
    other.close()
    assert kinds(read_events(tmp_path)) == ["start", "resume"]


def test_no_file_yet(tmp_path):
    tail = EventTail(tmp_path)
    assert list(tail.new()) == []
    assert read_events(tmp_path) == []
    log = EventLog(tmp_path)
    log.write("start")
    log.close()
    assert kinds(tail.new()) == ["start"]


def test_a_tail_gives_each_event_once(log, tmp_path):
    tail = EventTail(tmp_path)
    log.write("start")
    log.write("step")
    assert kinds(tail.new()) == ["start", "step"]
    assert list(tail.new()) == []
    log.write("end")
    assert kinds(tail.new()) == ["end"]


def test_a_tail_that_is_left_early_goes_on_there(log, tmp_path):
    for kind in ("start", "step", "end"):
        log.write(kind)
    tail = EventTail(tmp_path)
    assert next(tail.new())["event"] == "start"
    assert kinds(tail.new()) == ["step", "end"]


def test_from_the_end(log, tmp_path):
    log.write("start")
    tail = EventTail(tmp_path, from_end=True)
    assert list(tail.new()) == []
    log.write("resume")
    assert kinds(tail.new()) == ["resume"]
    assert kinds(EventTail(tmp_path).new()) == ["start", "resume"]


def test_from_the_end_of_nothing(tmp_path):
    tail = EventTail(tmp_path, from_end=True)
    append(tmp_path, b'{"event": "start"}\n')
    assert kinds(tail.new()) == ["start"]


def test_a_half_written_line_waits(tmp_path):
    tail = EventTail(tmp_path)
    append(tmp_path, b'{"event": "start"}\n{"event": "st')
    assert kinds(tail.new()) == ["start"]
    assert list(tail.new()) == []
    append(tmp_path, b'ep"')
    assert list(tail.new()) == []
    append(tmp_path, b"}\n")
    assert kinds(tail.new()) == ["step"]


@pytest.mark.parametrize(
    "damaged", [b'{"event": "st', b"", b"[1]", b"3", b"\xff\xfe", b"\x00\x00", b"{}", b'{"a": 1}']
)
def test_a_damaged_line_is_skipped(tmp_path, damaged):
    append(tmp_path, b'{"event": "start"}\n' + damaged + b'\n{"event": "end"}\n')
    assert kinds(read_events(tmp_path)) == ["start", "end"]


def test_a_full_disk_ends_nothing(tmp_path):
    (tmp_path / EVENTS_FILE).symlink_to("/dev/full")
    log = EventLog(tmp_path)
    log.write("step", step=1)
    log.close()


def test_every_line_is_json(log, tmp_path):
    for step in range(5):
        log.write("step", step=step)
    lines = (tmp_path / EVENTS_FILE).read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(5))
