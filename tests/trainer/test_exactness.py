"""n workers with batch b are one worker with batch n*b; same seed, same bits; resume exact."""

from __future__ import annotations

from typing import Any

import pytest

SMALL = {
    "run.model": "digits-cnn",
    # 203 samples: no multiple of any batch here, and a last global batch of 11.
    "run.data": "synthetic:1x8x8,10,train=203,validation=37",
    "train.augment": "crop+mirror",
    "train.epochs": 2,
}


@pytest.mark.parametrize(
    ("precision", "bound"), [("fp32", 1e-5), ("fp64", 1e-12)], ids=["fp32", "fp64"]
)
@pytest.mark.parametrize(("workers", "batch"), [(2, 24), (3, 16), (4, 12)])
def test_n_workers_equal_one(
    train: Any, relative_difference: Any, workers: int, batch: int, precision: str, bound: float
) -> None:
    settings = SMALL | {"train.precision": precision}
    one = train(1, settings | {"train.batch_size": 48}, folder="one")
    many = train(workers, settings | {"train.batch_size": batch}, folder="many")
    assert one.summary["steps"] == many.summary["steps"] == 10
    a, b = (run.trainer.task.replica.named_tensors() for run in (one, many))
    assert relative_difference(a, b) < bound
    assert one.summary["samples"] == many.summary["samples"] == 406


@pytest.mark.parametrize(
    ("precision", "bound"), [("fp32", 1e-4), ("fp64", 1e-10)], ids=["fp32", "fp64"]
)
def test_loss_of_200_steps(train: Any, precision: str, bound: float) -> None:
    curves = {}
    for workers in (1, 2, 4, 8):
        settings = {
            "run.model": "digits-mlp",
            "train.epochs": 3,
            "train.steps": 200,
            "schedule.scaling": "none",
            "train.precision": precision,
            "train.batch_size": 16 // workers,
            "train.validate_every_epochs": 0,
            "recorder.every_seconds": 1e-9,
        }
        events = train(workers, settings, folder=f"of-{workers}").events
        curves[workers] = [event["loss"] for event in events if event["event"] == "step"]
        assert len(curves[workers]) == 200
    assert curves[1][-1] < 0.5 * curves[1][0]
    for workers in (2, 4, 8):
        assert curves[workers] == pytest.approx(curves[1], rel=bound, abs=0)


def test_last_batch_of_fewer_samples_than_workers(train: Any, relative_difference: Any) -> None:
    # 49 = 48 + 1: in the last step three of four workers have nothing.
    settings = SMALL | {
        "run.data": "synthetic:1x8x8,10,train=49,validation=3",
        "train.precision": "fp64",
    }
    one = train(1, settings | {"train.batch_size": 48}, folder="one")
    four = train(4, settings | {"train.batch_size": 12}, folder="four")
    a, b = (run.trainer.task.replica.named_tensors() for run in (one, four))
    assert relative_difference(a, b) < 1e-12
    assert one.summary["metrics"]["loss"] == pytest.approx(four.summary["metrics"]["loss"])


def test_schemes_follow_one_trajectory(train: Any, relative_difference: Any) -> None:
    # Theano-MPI's conditions: equal starts, SGD with momentum, equal batches.
    settings = SMALL | {
        "run.data": "synthetic:1x8x8,10,train=192,validation=8",
        "train.precision": "fp64",
        "train.batch_size": 16,
    }
    runs = [
        train(3, settings | {"run.rule": f"bsp:scheme={scheme}"}, folder=scheme)
        for scheme in ("gradient", "weights")
    ]
    a, b = (run.trainer.task.replica.named_tensors() for run in runs)
    assert relative_difference(a, b) < 1e-11


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_one_seed_one_result(train: Any, workers: int) -> None:
    runs = [train(workers, SMALL, folder=name) for name in ("a", "b")]
    other = train(workers, SMALL | {"run.seed": 1}, folder="c")
    assert runs[0].sha == runs[1].sha != other.sha


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize(
    ("rule", "exchange"),
    [
        ("bsp", "allreduce"),
        ("bsp:scheme=weights", "asa"),
        ("bsp:sharded=on", "shm"),
        ("bsp:overlap=on", "asa:int8"),
        ("bsp", "asa:onebit"),
    ],
)
def test_stopped_and_resumed_equals_not_stopped(
    train: Any, workers: int, rule: str, exchange: str
) -> None:
    settings = SMALL | {
        "run.rule": rule,
        "run.exchange": exchange,
        "train.batch_size": 48 // workers,
    }
    straight = train(workers, settings, folder="straight")
    assert straight.summary["status"] == "finished"
    # In the middle of the first epoch, and of the second.
    for stop_at in (3, 7):
        folder = f"stopped-{stop_at}"
        stopped = train(workers, settings, folder=folder, stop_at=stop_at)
        assert stopped.summary["status"] == "stopped"
        assert stopped.summary["steps"] == stop_at
        resumed = train(workers, settings, folder=folder, resume=True)
        assert resumed.sha == straight.sha
        for what in ("status", "samples", "metrics", "wire_bytes"):
            assert resumed.summary[what] == straight.summary[what]
        losses = [
            [e["loss"] for e in run.events if e["event"] == "epoch"] for run in (resumed, straight)
        ]
        assert losses[0] == losses[1]


def test_resume_with_another_number_of_workers(train: Any) -> None:
    settings = SMALL | {"train.batch_size": 16, "run.exchange": "allreduce"}
    train(3, settings, folder="run", stop_at=2)
    resumed = train(2, settings, folder="run", resume=True)
    # 203 - 2 * 48 = 107 samples are left of the first epoch, each is used once.
    assert resumed.summary["steps"] == 2 + 4 + 7
    (event,) = [e for e in resumed.events if e["event"] == "resume"]
    assert "2 workers instead of 3" in event["changes"]
    assert "global batch 32 instead of 48, and the learning rate with it" in event["changes"]
    # Two epochs of 203 samples, counted once each, and the loss of the first epoch over all.
    assert resumed.summary["samples"] == 406
    elements = resumed.summary["parameters"]
    assert resumed.summary["wire_bytes"] == elements * 4 * (2 * 3 * 4 // 3 + 11 * 2)
    settings |= {"schedule.scaling": "none"}
    again = train(1, settings | {"train.epochs": 3}, folder="run", resume=True)
    assert again.summary["samples"] == 3 * 203
    changes = [e for e in again.events if e["event"] == "resume"][-1]["changes"]
    assert "global batch 16 instead of 32" in changes


def test_resuming_a_finished_run_changes_nothing(train: Any) -> None:
    first = train(2, SMALL, folder="run")
    again = train(2, SMALL, folder="run", resume=True)
    for run in (first, again):
        # Who carried the messages, and what was loaded since the workers were started.
        del run.summary["library"], run.summary["loading"]
    assert again.summary == first.summary
    fewer = train(1, SMALL, folder="run", resume=True)
    for key in ("samples", "steps", "wire_bytes", "metrics", "weights_sha256", "status"):
        assert fewer.summary[key] == first.summary[key]


def test_validation_that_the_last_checkpoint_came_before(train: Any) -> None:
    settings = SMALL | {"train.steps": 4, "checkpoint.every_steps": 4}
    first = train(2, settings, folder="run")
    assert (
        train(2, settings, folder="run", resume=True).summary["metrics"] == first.summary["metrics"]
    )


def test_batch_norm_synchronised_equals_one_worker(
    train: Any, relative_difference: Any, tmp_path: Any
) -> None:
    (tmp_path / "bn.py").write_text(
        "from torch import nn\n"
        "from arignote import Model\n"
        "class Net(Model):\n"
        "    defaults = {'run.data': 'synthetic:3x6x6,4,train=49,validation=16',\n"
        "                'train.epochs': 3, 'optimizer.learning_rate': 0.05,\n"
        "                'train.precision': 'fp64', 'train.batch_norm': 'synchronised'}\n"
        "    def build(self):\n"
        "        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(),\n"
        "                             nn.Flatten(), nn.Linear(128, 4), nn.BatchNorm1d(4))\n"
    )
    settings = {"run.model": f"{tmp_path}/bn.py:Net"}
    one = train(1, settings | {"train.batch_size": 24}, folder="one")
    # The last global batch is of one sample: two of three workers have none of it.
    three = train(3, settings | {"train.batch_size": 8}, folder="three")
    a, b = (run.trainer.task.replica.named_tensors() for run in (one, three))
    assert relative_difference(a, b) < 1e-10


def test_batch_norm_local_differs_but_saves_the_mean(train: Any, tmp_path: Any) -> None:
    (tmp_path / "bn_local.py").write_text(
        "from torch import nn\n"
        "from arignote import Model\n"
        "class Net(Model):\n"
        "    defaults = {'run.data': 'synthetic:3x6x6,4,train=48,validation=16',\n"
        "                'train.epochs': 2}\n"
        "    def build(self):\n"
        "        return nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(108, 4))\n"
    )
    settings = {"run.model": f"{tmp_path}/bn_local.py:Net", "train.batch_size": 8}
    straight = train(3, settings, folder="straight")
    train(3, settings, folder="stopped", stop_at=1)
    resumed = train(3, settings, folder="stopped", resume=True)
    # Local statistics are each worker's own, and come back to it.
    assert resumed.sha == straight.sha


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize(
    ("before", "after"),
    [("asa:topk,k=0.1", "asa:powersgd"), ("asa:powersgd", "asa:onebit"), ("asa", "asa:onebit")],
)
def test_resume_with_another_codec(train: Any, before: str, after: str, workers: int) -> None:
    settings = SMALL | {"run.rule": "bsp:sharded=off", "train.batch_size": 16}
    train(2, settings | {"run.exchange": before}, folder="run", stop_at=3)
    resumed = train(workers, settings | {"run.exchange": after}, folder="run", resume=True)
    assert resumed.summary["status"] == "finished"
    (event,) = [e for e in resumed.events if e["event"] == "resume"]
    dropped = [change for change in event["changes"] if "had yet to send is dropped" in change]
    assert len(dropped) == (before != "asa")
