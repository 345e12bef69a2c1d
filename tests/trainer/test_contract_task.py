"""What is no arignote.Model must fulfil the general contract, and is told what it lacks."""

from __future__ import annotations

from typing import Any

import pytest

from arignote.errors import UserError


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("pass", r"lacks params, data, epoch, n_epochs, train_iter, val_iter, adjust_hyperp, cl"),
        (
            "params = data = epoch = n_epochs = 0\n"
            "    train_iter = val_iter = adjust_hyperp = cleanup = None",
            r"model \S+:Thing: its data lacks n_batch_train",
        ),
    ],
    ids=["nothing", "data"],
)
def test_lacking(train: Any, tmp_path: Any, body: str, message: str) -> None:
    code = f"class Thing:\n    def __init__(self, config): pass\n    {body}\n"
    (tmp_path / "thing.py").write_text(code)
    with pytest.raises(UserError, match=message):
        train(1, {"run.model": f"{tmp_path}/thing.py:Thing"})


COUNTER = '''
import numpy as np

class Data:
    n_batch_train, n_batch_val = 4, 3

class Counter:
    """Counts its batches in its only parameter."""
    def __init__(self, config):
        self.params, self.data, self.epoch, self.n_epochs = [np.zeros(2)], Data(), 0, 2
        self.modes = []
    def reset_iter(self, mode): self.modes.append(mode)
    def train_iter(self, count, recorder): self.params[0] += [1, count]
    def val_iter(self, count, recorder):
        recorder.val_error(count, float(self.params[0][0]), 0.0, 0.0)
        return "stop" if count == 1 else None
    def adjust_hyperp(self, epoch): pass
    def cleanup(self): pass
    def save(self, path):
        with open(path + "/mine.txt", "a") as file: file.write("saved")
'''


def test_counts_batches_and_resumes_in_the_middle(train: Any, tmp_path: Any) -> None:
    (tmp_path / "counter.py").write_text(COUNTER)
    settings = {"run.model": f"{tmp_path}/counter.py:Counter", "run.rule": "bsp:scheme=weights"}
    straight = train(2, settings, folder="straight")
    (begin,) = [event for event in straight.events if event["event"] == "begin"]
    assert begin["can_change_workers"] is False
    model = straight.trainer.task.model
    assert model.params[0].tolist() == [8, 2 * (0 + 1 + 2 + 3)]
    assert model.modes == ["train", "val", "train", "val"]
    mine = list((tmp_path / "straight/checkpoints").glob("step-*/mine.txt"))
    assert [path.read_text() for path in mine] == ["saved"] * 2
    train(2, settings, folder="stopped", stop_at=6)
    with pytest.raises(Exception, match=r"is of 2 workers in the middle of an epoch.*with -n 2"):
        train(3, settings, folder="stopped", resume=True)
    assert train(2, settings, folder="stopped", resume=True).sha == straight.sha
