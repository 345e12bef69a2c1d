"""summary.json, and its table."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from arignote.recorder.phases import PHASES
from arignote.recorder.summary import SUMMARY_FILE, Summary, phase_rows, read_summary

VALUES = {
    "status": "finished",
    "model": "digits-mlp",
    "data": "digits",
    "rule": "bsp",
    "exchange": "allreduce:fp32",
    "library": "none",
    "parameters": 9610,
    "workers": 2,
    "steps": 10,
    "epochs": 1,
    "samples": 640,
    "images_per_second": 100.5,
    "seconds": {"calc": 4.0, "comm": 3.0, "sync": 2.0, "wait": 1.0},
    "wire_bytes": 1000,
    "exchanges": 20,
    "worker_steps": [10, 10],
    "notes": {"staleness": {"mean": 1.5, "max": 3.0}},
    "loading": {
        "loaders": 2,
        "restarts": 1,
        "seconds": {"read": 1.0, "decode": 2.0},
        "workers": 2,
        "steps": 5,
        "wait_seconds": 0.5,
        "step_seconds": 4.0,
    },
    "metrics": {"accuracy": 0.5},
    "weights_sha256": "ab",
}


def test_none_yet(tmp_path):
    assert read_summary(tmp_path) is None


def test_what_is_written_is_read(tmp_path):
    (tmp_path / SUMMARY_FILE).write_text(json.dumps(VALUES))
    summary = read_summary(tmp_path)
    assert summary == Summary(**VALUES)
    assert summary.model_dump() == VALUES


@pytest.mark.parametrize("change", [{"status": "crashed"}, {"more": 1}, {"steps": "many"}])
def test_what_is_no_summary(change):
    with pytest.raises(ValidationError):
        Summary(**(VALUES | change))


def test_rows():
    assert phase_rows(VALUES["seconds"], 10) == [
        ("calc", 4.0, 400.0, 0.4),
        ("comm", 3.0, 300.0, 0.3),
        ("sync", 2.0, 200.0, 0.2),
        ("wait", 1.0, 100.0, 0.1),
        ("total", 10.0, 1000.0, 1.0),
    ]


def test_rows_of_nothing():
    rows = phase_rows(dict.fromkeys(PHASES, 0.0), 0)
    assert rows == [(name, 0.0, 0.0, 0.0) for name in (*PHASES, "total")]


def test_every_field_of_a_summary_has_a_type():
    assert set(VALUES) == set(Summary.model_fields)
