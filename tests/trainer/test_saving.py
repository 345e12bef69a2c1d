"""Checkpoints: kept, pruned, damaged, refused, on a full disk."""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from arignote.errors import CheckpointError

SMALL = {
    "run.model": "digits-mlp",
    "run.data": "synthetic:1x8x8,10,train=64,validation=16",
    "train.batch_size": 16,
    "train.epochs": 3,
}


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in (folder / "checkpoints").iterdir() if p.name.startswith("step-"))


def test_keep_last_and_best(train: Any, tmp_path: Path) -> None:
    train(1, SMALL | {"checkpoint.every_steps": 3, "checkpoint.keep_last": 2})
    best = json.loads((tmp_path / "run/checkpoints/best.json").read_text())
    assert set(names(tmp_path / "run")) == {"step-00000009", "step-00000012", best["name"]}


@pytest.mark.parametrize("number", ["error", "loss"])
def test_best_by_what_the_model_says(train: Any, tmp_path: Path, number: str) -> None:
    (tmp_path / "mine.py").write_text(
        "from arignote.models.digits import DigitsMLP\n"
        f"class Mine(DigitsMLP):\n    best_by = {number!r}\n"
    )
    ran = train(1, SMALL | {"run.model": f"{tmp_path}/mine.py:Mine"})
    best = json.loads((tmp_path / "run/checkpoints/best.json").read_text())
    assert best["value"] == min(e[number] for e in ran.events if e["event"] == "validation")


def test_every_epoch_can_be_turned_off(train: Any, tmp_path: Path) -> None:
    train(1, SMALL | {"checkpoint.every_epochs": 0})
    # The end is always saved.
    assert names(tmp_path / "run") == ["step-00000012"]


def test_interval_is_respected_within_a_run(train: Any, tmp_path: Path) -> None:
    result = train(2, SMALL | {"checkpoint.every_steps": 2, "checkpoint.every_epochs": 0})
    assert [e["step"] for e in result.events if e["event"] == "checkpoint"] == [2, 4, 6]


@pytest.mark.parametrize("what", ["cut", "flipped", "missing", "manifest"])
def test_damaged_newest_is_reported_and_the_one_before_used(
    train: Any, tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    straight = train(2, SMALL, folder="straight")
    train(2, SMALL, folder="run", stop_at=5)
    newest = tmp_path / "run/checkpoints/step-00000005"
    file = newest / "worker-00001.safetensors"
    if what == "cut":
        file.write_bytes(file.read_bytes()[:-9])
    if what == "flipped":
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(bytes(content))
    if what == "missing":
        file.unlink()
    if what == "manifest":
        (newest / "manifest.json").write_text("{")
    resumed = train(2, SMALL, folder="run", resume=True)
    assert resumed.sha == straight.sha
    (warning,) = [e["message"] for e in resumed.events if e["event"] == "warning"]
    assert "checkpoint step-00000005 is damaged" in warning
    assert "using an older one" in warning
    assert warning in caplog.text
    (event,) = [e for e in resumed.events if e["event"] == "resume"]
    assert event["checkpoint"] == "step-00000004"


def test_nothing_sound_to_resume_from(train: Any, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint to resume from: the run never saved"):
        train(1, SMALL, resume=True)
    train(1, SMALL, stop_at=1)
    (tmp_path / "run/checkpoints/step-00000001/weights.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"step-00000001 is damaged: weights\.safetensors is"):
        train(1, SMALL, resume=True)


def test_another_model(train: Any) -> None:
    train(1, SMALL, stop_at=1)
    with pytest.raises(
        CheckpointError, match=r"is of another model \(digits-mlp\): 0\.bias is missing there"
    ):
        train(1, SMALL | {"run.model": "digits-cnn"}, resume=True)


def test_another_shape(train: Any) -> None:
    train(1, SMALL, stop_at=1)
    other = SMALL | {"run.data": "synthetic:1x9x9,10,train=64,validation=16"}
    with pytest.raises(CheckpointError, match=r"1\.weight is \(128, 64\) there and \(128, 81\) he"):
        train(1, other, resume=True)


def test_full_disk_is_a_loud_warning_and_training_goes_on(
    train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    straight = train(2, SMALL, folder="straight")
    real, calls = os.fsync, []

    def full(handle: int) -> None:
        path = str(Path(f"/proc/self/fd/{handle}").readlink())
        if ".saving-step-00000004" in path:
            calls.append(path)
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    result = train(2, SMALL, folder="run")
    assert calls
    assert result.summary["status"] == "finished"
    assert result.sha == straight.sha
    assert re.search(
        r"checkpoint of step 4 NOT SAVED \(worker [01]: \[Errno 28\] No space", caplog.text
    )
    assert names(tmp_path / "run") == ["step-00000002", "step-00000006"]
    left = [p.name for p in (tmp_path / "run/checkpoints").iterdir() if p.name.startswith(".sav")]
    assert left == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting needs root")
def test_disk_that_is_really_full(
    train: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import subprocess

    folder = tmp_path / "run"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=110k", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("this machine does not let root mount a tmpfs")
    try:
        # One checkpoint of about 65 kB fits, the second does not.
        result = train(1, SMALL | {"checkpoint.keep_last": 3, "optimizer.momentum": 0.0})
        assert result.summary["status"] == "finished"
        assert "NOT SAVED" in caplog.text
        assert names(folder) == ["step-00000004"]
        resumed = train(1, SMALL | {"train.epochs": 1, "optimizer.momentum": 0.0}, resume=True)
        assert [e["step"] for e in resumed.events if e["event"] == "resume"] == [4]
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_newer_damaged_ones_do_not_push_out_the_sound_ones(train: Any, tmp_path: Path) -> None:
    keep = SMALL | {"checkpoint.keep_last": 1, "checkpoint.keep_best": False}
    train(1, SMALL | {"checkpoint.every_steps": 1}, folder="run", stop_at=7)
    (tmp_path / "run/checkpoints/step-00000007/weights.safetensors").write_bytes(b"x")
    train(1, keep | {"train.steps": 7, "train.epochs": 3}, resume=True)
    # And the best so far, which was noted before.
    assert names(tmp_path / "run") == ["step-00000004", "step-00000007"]
    straight = train(1, SMALL, folder="straight")
    assert train(1, keep, resume=True).sha == straight.sha


@pytest.mark.parametrize("content", ["{", "[]", '{"name": 3}', ""])
def test_damaged_note_of_the_best(train: Any, tmp_path: Path, content: str) -> None:
    train(1, SMALL, folder="run", stop_at=5)
    (tmp_path / "run/checkpoints/best.json").write_text(content)
    assert train(1, SMALL, resume=True).summary["status"] == "finished"
    assert json.loads((tmp_path / "run/checkpoints/best.json").read_text())["name"]


@pytest.mark.parametrize(
    "manifest", ['{"step": 5, "workers": 1, "files": {}}', '{"files": []}', '{"files": {}}', "3"]
)
def test_manifest_of_another_form(train: Any, tmp_path: Path, manifest: str) -> None:
    straight = train(1, SMALL, folder="straight")
    train(1, SMALL, folder="run", stop_at=5)
    (tmp_path / "run/checkpoints/step-00000005/manifest.json").write_text(manifest)
    resumed = train(1, SMALL, resume=True)
    assert resumed.sha == straight.sha
    (event,) = [e for e in resumed.events if e["event"] == "resume"]
    assert event["checkpoint"] == "step-00000004"


def test_the_best_is_kept_also_at_the_end(train: Any, tmp_path: Path) -> None:
    train(1, SMALL | {"checkpoint.every_epochs": 0})
    best = json.loads((tmp_path / "run/checkpoints/best.json").read_text())
    assert best["name"] == "step-00000012"
