"""What the settings do to training: precision, clipping, decay, NaN, odd losses and data."""

from __future__ import annotations

import json
import math
import shutil
from typing import Any

import pytest
import torch
from torch import nn

from arignote.config.settings import Optimizer
from arignote.data.base import Batch
from arignote.errors import NotANumberError, UserError
from arignote.models.base import Model
from arignote.models.digits import DigitsCNN
from arignote.models.optimizers import build_optimizer, parameter_groups
from arignote.trainer.loop import Trainer

SMALL = {
    "run.model": "digits-mlp",
    "run.data": "synthetic:1x8x8,10,train=96,validation=24",
    "train.batch_size": 16,
    "train.epochs": 2,
}


def test_autocast_learns_like_fp32(train: Any) -> None:
    digits = {"run.model": "digits-cnn", "train.epochs": 3}
    full = train(1, digits, folder="fp32")
    mixed = train(2, digits | {"train.precision": "bf16"}, folder="mixed")
    assert full.summary["metrics"]["accuracy"] > 0.8
    assert mixed.summary["metrics"]["accuracy"] > 0.8
    assert mixed.sha != full.sha


def test_fp16_scaling_is_saved_and_resumed(train: Any) -> None:
    settings = SMALL | {"train.precision": "fp16"}
    straight = train(2, settings, folder="straight")
    train(2, settings, folder="stopped", stop_at=3)
    assert train(2, settings, folder="stopped", resume=True).sha == straight.sha


def test_channels_last_changes_the_memory_not_the_images(
    train: Any, relative_difference: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    loss = Model.loss

    def look(self: Any, batch: Batch) -> torch.Tensor:
        seen.add(batch.inputs.is_contiguous(memory_format=torch.channels_last))
        return loss(self, batch)

    monkeypatch.setattr(DigitsCNN, "loss", look)
    settings = SMALL | {"run.model": "digits-cnn", "run.data": "synthetic:3x8x8,10,train=48"}
    plain = train(1, settings | {"train.channels_last": False}, folder="plain")
    assert seen == {False}
    seen.clear()
    last = train(1, settings | {"train.channels_last": True}, folder="last")
    assert seen == {True}
    a, b = (run.trainer.task.replica.named_tensors() for run in (plain, last))
    assert relative_difference(a, b) < 1e-4


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.compiles
@pytest.mark.filterwarnings("ignore")
def test_compiled_equals_eager(train: Any, relative_difference: Any) -> None:
    eager = train(1, SMALL, folder="eager")
    compiled = train(1, SMALL | {"train.compile": True}, folder="compiled")
    a, b = (run.trainer.task.replica.named_tensors() for run in (eager, compiled))
    assert relative_difference(a, b) < 1e-4


def test_clipping_bounds_the_update(train: Any) -> None:
    settings = SMALL | {"train.clip_norm": 1e-3, "train.steps": 1, "optimizer.learning_rate": 1.0}
    settings |= {"optimizer.momentum": 0.0, "schedule.scaling": "none"}
    after = train(2, settings).trainer.task.replica.parameters[0]
    torch.manual_seed(0)
    start = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    before = torch.cat([p.detach().flatten() for p in start.parameters()])
    assert float((after - before).norm()) == pytest.approx(1e-3, rel=1e-3)


def test_more_workers_than_samples(train: Any) -> None:
    few = SMALL | {"run.data": "synthetic:1x8x8,2,train=3,validation=3"}
    with pytest.raises(UserError, match=r"4 workers but only 3 training samples: use at most -n 3"):
        train(4, few)


def test_nan_names_worker_and_step_and_keeps_the_checkpoint(train: Any, tmp_path: Any) -> None:
    settings = SMALL | {"checkpoint.every_steps": 1, "optimizer.learning_rate": 1e30}
    with pytest.raises(NotANumberError, match=r"the loss of worker 0, worker 1 is not a number at"):
        train(2, settings, folder="run")
    saved = list((tmp_path / "run/checkpoints").glob("step-*/manifest.json"))
    assert saved
    result = train(2, settings | {"train.on_nan": "continue"}, folder="other")
    assert result.summary["status"] == "finished"
    assert "loss" not in result.summary["metrics"]


def test_betas_reach_adam() -> None:
    module = nn.Linear(2, 2)
    for name in ("adam", "adamw"):
        settings = Optimizer(name=name, betas=[0.5, 0.75])  # type: ignore[arg-type]
        optimizer = build_optimizer(module, module.parameters(), settings)
        assert optimizer.param_groups[0]["betas"] == (0.5, 0.75)
        default = build_optimizer(module, module.parameters(), Optimizer(name=name))  # type: ignore[arg-type]
        assert default.param_groups[0]["betas"] == (0.9, 0.999)


def test_every_optimizer_lowers_the_loss(train: Any) -> None:
    for name, rate in (("sgd", 0.1), ("adam", 1e-3), ("adamw", 1e-3), ("rmsprop", 1e-3)):
        settings = {"run.model": "digits-mlp", "train.epochs": 2, "optimizer.name": name}
        settings |= {"optimizer.momentum": 0.0, "optimizer.learning_rate": rate}
        result = train(2, settings, folder=name)
        assert result.summary["metrics"]["loss"] < 0.9 * math.log(10)


def test_decay_leaves_out_biases_and_norms() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.LayerNorm(4), nn.Linear(4, 2))
    settings = Optimizer(weight_decay=0.1, decay_all=False)
    decayed, kept = parameter_groups(module, module.parameters(), settings)
    assert decayed["weight_decay"] == 0.1
    assert kept["weight_decay"] == 0.0
    assert [id(p) for p in decayed["params"]] == [id(module[0].weight), id(module[3].weight)]
    assert len(kept["params"]) == 6
    (everything,) = parameter_groups(module, module.parameters(), Optimizer(weight_decay=0.1))
    assert len(everything["params"]) == 8
    built = build_optimizer(module, module.parameters(), Optimizer(momentum=0.9, nesterov=True))
    assert isinstance(built, torch.optim.SGD)
    assert built.defaults["nesterov"]


@pytest.mark.parametrize("decay_all", [True, False])
def test_biases_at_twice_the_rate(decay_all: bool) -> None:
    module = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
    settings = Optimizer(
        learning_rate=0.5, weight_decay=0.1, decay_all=decay_all, bias_rate_factor=2.0
    )
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(1.0)
            parameter.grad = torch.ones_like(parameter)
    optimizer = build_optimizer(module, module.parameters(), settings)
    assert optimizer.param_groups[0]["lr"] == 0.5
    optimizer.step()
    # w - rate (gradient + decay w): 1 - 0.5 * 1.1, and without decay 1 - 0.5; biases at rate 1.
    gamma, bias = (0.45, -0.1) if decay_all else (0.5, 0.0)
    moved = [float(parameter.detach()) for parameter in module.parameters()]
    assert moved == pytest.approx([0.45, bias, gamma, bias], abs=1e-6)


def test_the_schedule_keeps_the_ratio_of_the_rates(train: Any) -> None:
    settings = {"optimizer.bias_rate_factor": 2.0, "optimizer.learning_rate": 0.04}
    settings |= {"run.model": "digits-mlp", "train.steps": 3, "schedule.name": "constant"}
    settings |= {"schedule.scaling": "none"}
    weights, biases = train(2, settings).trainer.task.replica.optimizer.param_groups
    assert (weights["lr"], biases["lr"]) == (0.04, 0.08)
    assert [len(group["params"]) for group in (weights, biases)] == [2, 2]


def test_model_without_build(train: Any, tmp_path: Any) -> None:
    (tmp_path / "lazy.py").write_text(
        "from arignote import Model\nclass Lazy(Model):\n    defaults = {'run.data': 'digits'}\n"
    )
    with pytest.raises(NotImplementedError, match=r"Lazy needs a method build\(\)"):
        train(1, {"run.model": f"{tmp_path}/lazy.py:Lazy"})


def test_a_loss_of_ones_own_needs_no_classes(train: Any, tmp_path: Any) -> None:
    (tmp_path / "auto.py").write_text(
        "from torch import nn\n"
        "from arignote import Model\n"
        "class Auto(Model):\n"
        "    defaults = {'run.data': 'synthetic:1x4x4,2,train=64,validation=16',\n"
        "                'train.epochs': 3, 'optimizer.name': 'adam',\n"
        "                'optimizer.learning_rate': 0.01}\n"
        "    def build(self):\n"
        "        return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 1, 1))\n"
        "    def loss(self, batch):\n"
        "        return (self.module(batch.inputs) - batch.inputs).square().mean()\n"
    )
    result = train(2, {"run.model": f"{tmp_path}/auto.py:Auto"})
    assert set(result.summary["metrics"]) == {"loss"}


def test_phases_add_up_and_events_tell_the_story(train: Any) -> None:
    result = train(2, SMALL | {"recorder.every_seconds": 0.001, "run.exchange": "allreduce"})
    kinds = [event["event"] for event in result.events]
    assert kinds[:3] == ["start", "placement", "begin"]
    assert kinds[-1] == "end"
    assert {"train_size": 96, "can_change_workers": True}.items() <= result.events[2].items()
    assert kinds.count("epoch") == kinds.count("validation") == kinds.count("checkpoint") == 2
    step = next(event for event in result.events if event["event"] == "step")
    assert {"loss", "learning_rate", "images_per_second", "seconds", "wire_bytes"} <= set(step)
    assert result.summary["samples"] == 192
    assert result.summary["steps"] == 6
    parameters = result.summary["parameters"]
    assert result.summary["wire_bytes"] == 6 * 2 * parameters * 4
    assert set(result.summary["seconds"]) == {"calc", "comm", "sync", "wait"}


def test_validation_off(train: Any) -> None:
    result = train(1, SMALL | {"train.validate_every_epochs": 0})
    assert result.summary["metrics"] == {}


NET = """
import torch
from torch import nn
from arignote import Batch, Dataset, Model

class Net(Model):
    defaults = {"run.data": "synthetic:1x8x8,10,train=61,validation=24", "train.epochs": 2,
                "train.batch_size": 10}
    def build(self):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
"""


def test_loss_of_another_kind(train: Any, tmp_path: Any) -> None:
    for name, body in (
        ("float", "return 1.0"),
        ("vector", "return self.module(batch.inputs).sum(1)"),
        ("constant", "return torch.zeros(())"),
    ):
        path = tmp_path / f"{name}_loss.py"
        path.write_text(NET + f"    def loss(self, batch):\n        {body}\n")
        with pytest.raises(UserError, match=r"Net\.loss returned .*: expected a tensor of one"):
            train(1, {"run.model": f"{path}:Net"}, folder=name)


def test_outputs_that_are_no_class_scores_have_no_accuracy(train: Any, tmp_path: Any) -> None:
    path = tmp_path / "regression.py"
    body = "        return (self.module(batch.inputs)[:, 0] - batch.targets).square().mean()\n"
    path.write_text(
        NET.replace("nn.Linear(64, 10)", "nn.Linear(64, 1)") + "    def loss(self, batch):\n" + body
    )
    result = train(2, {"run.model": f"{path}:Net", "optimizer.learning_rate": 0.001})
    assert set(result.summary["metrics"]) == {"loss"}
    best = json.loads((tmp_path / "run/checkpoints/best.json").read_text())
    assert best["value"] == pytest.approx(result.summary["metrics"]["loss"])


STACKED = """
class Stacked(Dataset):
    classes, sample_shape, train_size, validation_size = ("a", "b"), (64,), 13, 4
    @classmethod
    def open(cls, spec, *, augment): return cls()
    def _get(self, indices):
        items = [torch.full((64,), float(i)) for i in indices]
        return Batch(torch.stack(items), torch.from_numpy(indices) % 2)
    def train_batch(self, indices, *, seed, epoch): return self._get(indices)
    def validation_batch(self, indices): return self._get(indices)

class Own(Net):
    def data(self):
        self.drawn = float(torch.rand(()))
        return Stacked()
"""


def test_a_data_set_is_never_asked_for_nothing_and_draws_alike(train: Any, tmp_path: Any) -> None:
    path = tmp_path / "stacked.py"
    path.write_text(NET + STACKED)
    settings = {"run.model": f"{path}:Own", "train.batch_size": 4}
    drawn = [train(n, settings, folder=f"n{n}").trainer.task.model.drawn for n in (1, 3)]
    assert drawn[0] == drawn[1]


def test_double_precision_leaves_integers_alone(train: Any, tmp_path: Any) -> None:
    path = tmp_path / "tokens.py"
    text = STACKED.replace("Batch(torch.stack(items), ", "Batch(torch.stack(items).long(), ")
    text += "    def build(self):\n        return nn.Sequential(nn.Embedding(13, 2), nn.Flatten(), "
    path.write_text(NET + text + "nn.Linear(128, 2))\n")
    result = train(1, {"run.model": f"{path}:Own", "train.precision": "fp64"})
    assert result.summary["status"] == "finished"


def test_decay_leaves_out_biases_of_every_name() -> None:
    module = nn.ModuleList([nn.LSTM(2, 2), nn.MultiheadAttention(2, 1), nn.RMSNorm(2)])
    settings = Optimizer(weight_decay=0.1, decay_all=False)
    _, kept = parameter_groups(module, module.parameters(), settings)
    names = {name for name, p in module.named_parameters() if any(p is q for q in kept["params"])}
    assert names == {
        "0.bias_ih_l0",
        "0.bias_hh_l0",
        "1.in_proj_bias",
        "1.out_proj.bias",
        "2.weight",
    }


def test_counters_of_layers_are_each_workers_own(train: Any, tmp_path: Any) -> None:
    # With momentum=None a layer averages over the batches that it has seen, and in the last
    # step of an epoch two of three workers see none.
    path = tmp_path / "counting.py"
    path.write_text(NET.replace("nn.Flatten()", "nn.BatchNorm2d(1, momentum=None), nn.Flatten()"))
    settings = {"run.model": f"{path}:Net", "train.epochs": 3}
    straight = train(3, settings, folder="straight")
    train(3, settings, folder="stopped", stop_at=4)
    assert train(3, settings, folder="stopped", resume=True).sha == straight.sha


def test_told_to_stop_while_validating(train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    straight = train(2, SMALL, folder="straight")
    stop = {"once": True}
    meet = Trainer._run_validation

    def run_validation(self: Any) -> Any:
        if stop["once"] and self.world.rank == 1:
            stop["once"] = False
            self.stop.is_set = True
        return meet(self)

    monkeypatch.setattr(Trainer, "_run_validation", run_validation)
    stopped = train(2, SMALL, folder="stopped")
    assert stopped.summary["status"] == "stopped"
    assert stopped.summary["epochs"] == 0
    assert stopped.summary["steps"] == 3
    resumed = train(2, SMALL, folder="stopped", resume=True)
    assert resumed.sha == straight.sha
    assert resumed.summary["metrics"] == straight.summary["metrics"]
    losses = [
        [e["loss"] for e in run.events if e["event"] == "epoch"] for run in (straight, resumed)
    ]
    assert losses[0] == losses[1]


def test_changed_settings_are_named_on_resume(train: Any) -> None:
    train(1, SMALL, folder="run", stop_at=2)
    resumed = train(1, SMALL | {"optimizer.weight_decay": 0.5}, folder="run", resume=True)
    (event,) = [e for e in resumed.events if e["event"] == "resume"]
    assert event["changes"] == ["optimizer.weight_decay 0.5 instead of 0.0"]
    assert resumed.trainer.task.replica.optimizer.param_groups[0]["weight_decay"] == 0.5


DRAWING = STACKED.replace("(i)) for", "(i)) + torch.rand(64) for")


def test_saving_draws_nothing(train: Any, tmp_path: Any) -> None:
    path = tmp_path / "drawing.py"
    path.write_text(NET + DRAWING)
    settings = {"run.model": f"{path}:Own", "train.batch_size": 4, "train.epochs": 2}
    often = train(1, settings | {"checkpoint.every_steps": 1}, folder="often")
    assert often.sha == train(1, settings, folder="seldom").sha
