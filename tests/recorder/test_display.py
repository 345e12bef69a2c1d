"""What a person sees while a run goes on, without a terminal and with one."""

from __future__ import annotations

import json

import pytest

from arignote.recorder.display import Display
from arignote.recorder.events import EventLog, EventTail
from arignote.recorder.summary import SUMMARY_FILE

SECONDS = {"calc": 1.5, "comm": 0.25, "sync": 0.25, "wait": 0.0}
BEGIN = {
    "workers": 2,
    "model": "digits-mlp",
    "parameters": 9610,
    "data": "digits",
    "rule": "bsp",
    "exchange": "allreduce:fp32",
    "library": "Open MPI 5",
    "epoch": 0,
    "epochs": 3,
}
EPOCH = {"epoch": 1, "step": 45, "loss": 0.51234, "images_per_second": 12345.6, "seconds": SECONDS}
VALIDATION = {"step": 45, "loss": 0.25, "accuracy": 0.875, "error_top5": 0.0125}
STEP = {"step": 7, "epoch": 0.5, "loss": 1.25, "images_per_second": 1000.0}
SUMMARY = {
    "status": "finished",
    "model": "digits-mlp",
    "data": "digits",
    "rule": "bsp",
    "exchange": "allreduce:fp32",
    "library": "Open MPI 5",
    "parameters": 9610,
    "workers": 2,
    "steps": 100,
    "epochs": 3,
    "samples": 6400,
    "images_per_second": 3200.4,
    "seconds": SECONDS,
    "wire_bytes": 2_500_000,
    "metrics": {"accuracy": 0.9721},
    "weights_sha256": "abcd",
}


@pytest.fixture
def log(tmp_path):
    made = EventLog(tmp_path)
    yield made
    made.close()


@pytest.fixture
def display(tmp_path):
    return Display(EventTail(tmp_path), tmp_path)


def test_the_first_meeting(log, display, capsys):
    display.refresh()
    assert not display.met
    log.write("start", peers=[])
    display.refresh()
    assert display.met
    assert capsys.readouterr() == ("", "")


def test_a_whole_run(log, display, tmp_path, capsys):
    with display:
        log.write("start", peers=[])
        log.write("begin", **BEGIN)
        log.write("step", **STEP)
        log.write("something new", value=1)
        log.write("epoch", **EPOCH)
        log.write("validation", **VALIDATION)
        display.refresh()
        assert capsys.readouterr().out.splitlines() == [
            "digits-mlp (9,610 parameters) on digits · 2 workers · bsp · allreduce:fp32 · "
            "Open MPI 5",
            f"run folder {tmp_path}",
            "epoch   1 · step 45 · loss 0.5123 · 12,346 images/s · "
            "calc 1.50s comm 0.25s sync 0.25s wait 0.00s",
            "  validation · accuracy 87.50% · top-5 error 1.25% · loss 0.2500",
        ]
        log.write("end", status="finished", step=100)
        (tmp_path / SUMMARY_FILE).write_text(json.dumps(SUMMARY))
        display.refresh()
    out, err = capsys.readouterr()
    assert err == ""
    assert "Where every second of the steps went" in out
    rows = {cells[0]: cells[1:] for line in out.splitlines() if len(cells := words(line)) == 4}
    assert rows["calc"] == ["1.50", "15.00", "75.0%"]
    assert rows["total"] == ["2.00", "20.00", "100.0%"]
    assert (
        "finished: 100 steps, 6,400 samples, 3,200 images/s, 2.5 MB on the wire, "
        "validation accuracy 97.21%\nweights_sha256 abcd\n" in out
    )


def test_samples_have_a_name(log, display, tmp_path, capsys):
    with display:
        log.write("begin", **BEGIN, sample_name="sequences")
        log.write("epoch", **EPOCH)
        log.write("end", status="finished", step=100)
        (tmp_path / SUMMARY_FILE).write_text(json.dumps(SUMMARY))
        display.refresh()
    out = capsys.readouterr().out
    assert "12,346 sequences/s" in out
    assert "3,200 sequences/s" in out
    assert "images" not in out


def words(line):
    return line.replace("│", " ").split()


def test_no_summary_of_a_run_that_did_not_end(log, display, tmp_path, capsys):
    # The summary is an earlier one's: this run of the folder died.
    (tmp_path / SUMMARY_FILE).write_text(json.dumps(SUMMARY))
    with display:
        log.write("begin", **(BEGIN | {"workers": 1, "data": ""}))
        display.refresh()
    out = capsys.readouterr().out
    assert "on its own data · 1 worker · bsp" in out
    assert "finished" not in out


def test_a_run_without_validation(log, display, tmp_path, capsys):
    (tmp_path / SUMMARY_FILE).write_text(json.dumps(SUMMARY | {"metrics": {}}))
    with display:
        log.write("end", status="finished", step=100)
        display.refresh()
    assert "2.5 MB on the wire\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"exchanges": 20}, "20 exchanges; steps by worker: 60, 40\n"),
        ({}, "no exchange: the run was over before the first; steps by worker: 60, 40\n"),
        ({"rule": "bsp:scheme=weights"}, None),
        ({"workers": 1, "worker_steps": [100]}, None),
    ],
)
def test_what_the_workers_did_apart(log, display, tmp_path, capsys, changed, line):
    apart = SUMMARY | {"rule": "gosgd", "worker_steps": [60, 40]} | changed
    (tmp_path / SUMMARY_FILE).write_text(json.dumps(apart))
    with display:
        log.write("end", status="finished", step=100)
        display.refresh()
    out = capsys.readouterr().out
    assert line in out if line else "steps by worker" not in out


def test_what_is_no_number_is_a_dash(log, display, capsys):
    log.write("epoch", **(EPOCH | {"loss": None}))
    log.write("validation", step=1, loss=None, accuracy=None, error_top5=None)
    display.refresh()
    epoch, validation = capsys.readouterr().out.splitlines()
    assert "· loss - ·" in epoch
    assert validation == "  validation · accuracy - · top-5 error - · loss -"


@pytest.mark.parametrize(
    ("changes", "shown"), [(["a", "b"], "a; b"), ([], "nothing changes")], ids=["some", "none"]
)
def test_a_resumed_run(log, display, capsys, changes, shown):
    log.write("resume", checkpoint="step-7", changes=changes)
    display.refresh()
    assert capsys.readouterr().out == f"resumed from step-7: {shown}\n"


def test_other_workers_go_on(log, display, capsys):
    with display:
        log.write("start", peers=[])
        log.write("begin", **BEGIN)
        display.refresh()
        assert display.begun["workers"] == 2
        log.write("end", status="stopped", step=7)
        display.start_again()
        display.refresh()
        assert (display.met, display.ended, display.begun) == (False, False, None)
        log.write("resize", before=2, workers=3, problem="")
        log.write("start", peers=[])
        log.write("begin", **(BEGIN | {"workers": 3}))
        display.refresh()
        assert (display.met, display.ended, display.begun["workers"]) == (True, False, 3)
    assert "· 3 workers ·" in capsys.readouterr().out


def test_lines_of_workers(display, capsys):
    with display:
        display.line("[bold]plain[/bold] " + "x" * 200, error=False)
        display.line("bad [red]news", error=True)
    out, err = capsys.readouterr()
    assert out == "[bold]plain[/bold] " + "x" * 200 + "\n"
    assert err == "bad [red]news\n"


def test_in_a_terminal(log, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    display = Display(EventTail(tmp_path), tmp_path)
    with display:
        log.write("begin", **BEGIN)
        log.write("step", **STEP)
        display.refresh()
        display._progress.refresh()
        display.line("bad news", error=True)
    out, err = capsys.readouterr()
    assert "step 7 · loss 1.2500 · 1,000 images/s" in out
    # Above the live line, not through it.
    assert "bad news" in out
    assert err == ""


def test_weights_from_elsewhere(log, display, capsys):
    log.write(
        "weights",
        file="resnet.pth",
        loaded=["a", "b"],
        other_shape=["fc.bias (1000,) in the file, (10,) here"],
        missing=[],
        unknown=[f"u{number}" for number in range(25)],
    )
    display.refresh()
    assert capsys.readouterr().out.splitlines() == [
        "weights resnet.pth: 2 of 3 tensors loaded; 1 of another shape, 0 missing in the file, "
        "25 unknown to the model",
        "  of another shape: fc.bias (1000,) in the file, (10,) here",
        f"  unknown to the model: {'; '.join(f'u{number}' for number in range(20))}; "
        "5 more (events.jsonl has all)",
    ]
