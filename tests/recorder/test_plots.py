"""Pictures of runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from arignote.errors import UserError
from arignote.recorder import plots
from arignote.recorder.events import EventLog
from arignote.recorder.plots import plot_runs

HEADS = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}


def make_run(folder, epochs=3, losses=None, validate=True):
    folder.mkdir(parents=True)
    log = EventLog(folder)
    log.write("start", peers=[])
    for epoch in range(1, epochs + 1):
        loss = losses[epoch - 1] if losses else 1 / epoch
        seconds = {"calc": 2.0, "comm": 1.0, "sync": 0.5, "wait": 0.25}
        log.write("epoch", epoch=epoch, step=epoch * 10, loss=loss, seconds=seconds)
        if validate:
            log.write("validation", step=epoch * 10, loss=loss, accuracy=1 - 1 / (epoch + 1))
    log.close()
    return folder


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_two_runs_in_one_picture(tmp_path, suffix):
    runs = [make_run(tmp_path / "one"), make_run(tmp_path / "two", epochs=5)]
    target = tmp_path / f"plot{suffix}"
    plot_runs(runs, target)
    content = target.read_bytes()
    assert content.startswith(HEADS[suffix])
    assert len(content) > 5000


def legends(target):
    """The texts in an SVG: matplotlib writes each as a comment too."""
    text = target.read_text()
    return [line.strip()[5:-4] for line in text.splitlines() if line.strip().startswith("<!-- ")]


def test_what_is_in_it(tmp_path):
    target = tmp_path / "plot.svg"
    plot_runs([make_run(tmp_path / "one"), make_run(tmp_path / "two")], target)
    texts = legends(target)
    for name in ("one, training", "two, validation", "Validation accuracy (top-1)", "Loss"):
        assert name in texts
    for phase in ("calc", "comm", "sync", "wait"):
        assert phase in texts


def test_runs_of_the_same_name(tmp_path, monkeypatch):
    # Short paths: no picture has room for very long ones.
    monkeypatch.chdir(tmp_path)
    runs = [make_run(Path("a/run")), make_run(Path("b/run"))]
    target = tmp_path / "plot.svg"
    plot_runs(runs, target)
    assert {f"{run}, training" for run in runs} <= set(legends(target))


def test_the_current_folder(tmp_path, monkeypatch):
    make_run(tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run")
    plot_runs([Path()], tmp_path / "plot.svg")
    assert "., training" in legends(tmp_path / "plot.svg")


def test_a_run_without_validation(tmp_path):
    target = tmp_path / "plot.svg"
    plot_runs([make_run(tmp_path / "one", validate=False)], target)
    assert "one, training" in legends(target)
    assert "one, validation" not in legends(target)


def test_a_run_that_ended_within_an_epoch(tmp_path):
    """Its last validation stands where it was made, between two epochs."""
    folder = make_run(tmp_path / "one", epochs=2)
    log = EventLog(folder)
    log.write("step", epoch=2.4, step=24, loss=0.3)
    log.write("validation", step=25, loss=0.3, accuracy=0.9)
    log.close()
    axes = Figure().subplots()
    plots._curve(axes, plots._events(folder), "validation", "accuracy")
    assert axes.lines[0].get_xdata() == pytest.approx([1, 2, 2.5])


@pytest.mark.parametrize("losses", [[None, None], [1.0, None], [0.0, 0.0], [2.0, -2.0]])
def test_losses_that_are_no_good(tmp_path, losses):
    target = tmp_path / "plot.png"
    plot_runs([make_run(tmp_path / "one", epochs=2, losses=losses)], target)
    assert target.stat().st_size > 5000


def test_a_folder_without_events(tmp_path):
    with pytest.raises(
        UserError, match=r"none is no run: it has no events\.jsonl; give the folder of a run"
    ):
        plot_runs([tmp_path / "none"], tmp_path / "plot.png")
    make_run(tmp_path / "young", epochs=0)
    with pytest.raises(UserError, match=r"young has nothing to plot yet"):
        plot_runs([tmp_path / "young"], tmp_path / "plot.png")
    assert not (tmp_path / "plot.png").exists()


@pytest.mark.parametrize("name", ["plot.gif", "plot", "plot.PNG"])
def test_another_kind_of_file(tmp_path, name):
    with pytest.raises(UserError, match=rf"got '{name}', expected a file that ends in \.png, \.s"):
        plot_runs([make_run(tmp_path / "one")], tmp_path / name)


def test_a_target_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    run = make_run(tmp_path / "one")
    with pytest.raises(UserError, match=r"plot\.png cannot be written: No such file"):
        plot_runs([run], tmp_path / "none" / "plot.png")
    with pytest.raises(UserError, match=r"plot\.png cannot be written: Not a directory"):
        plot_runs([run], tmp_path / "file" / "plot.png")
