"""The main job, with real processes under real MPIs."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from safetensors.torch import load_file

DATA = "synthetic:1x8x8,10,train=500,validation=50"


def test_main_job(mpi_cli: Any, summary_of: Any) -> None:
    # With all that torch imports, as users have it.
    del mpi_cli.environment["PYTHONPATH"]
    ended = mpi_cli("train", "digits-cnn", "-n", "2", "--out", "run")
    summary = summary_of(mpi_cli.folder / "run")
    assert summary["metrics"]["accuracy"] >= 0.97
    assert summary["workers"] == 2
    assert ("MPICH" if "ARIGNOTE_MPIRUN" in mpi_cli.environment else "Open MPI") in ended.out
    for word in ("phase", "calc", "comm", "sync", "wait", "total", summary["weights_sha256"]):
        assert word in ended.out
    assert ended.err == ""
    plotted = mpi_cli("plot", "run", "-o", "run/plot.svg")
    assert plotted.out == "plot run/plot.svg\n"
    assert (mpi_cli.folder / "run/plot.svg").read_text().startswith("<?xml")


def test_four_workers_of_16_equal_one_of_64(
    cli: Any, relative_difference: Any, summary_of: Any
) -> None:
    common = ["train", "digits-cnn", "--data", DATA, "--steps", "50"]
    common += ["--set", "train.validate_every_epochs=0"]
    weights = {}
    for precision in ("fp32", "fp64"):
        for workers, batch in ((4, 16), (1, 64)):
            out = f"{precision}-{workers}"
            cli(
                *common,
                *("-n", str(workers), "--batch-size", str(batch), "--out", out),
                *("--set", f"train.precision={precision}"),
            )
            assert summary_of(cli.folder / out)["steps"] == 50
            path = cli.folder / out / "checkpoints/step-00000050/weights.safetensors"
            weights[out] = load_weights(path)
    assert relative_difference(weights["fp32-1"], weights["fp32-4"]) < 1e-5
    assert relative_difference(weights["fp64-1"], weights["fp64-4"]) < 1e-12


def load_weights(path: Any) -> dict[str, Any]:
    tensors = load_file(path)
    # `pack` numbers the tensors in the order of the state dict.
    return {key: tensors[key] for key in sorted(tensors, key=int)}


def test_one_seed_one_result_under_mpi(cli: Any, summary_of: Any) -> None:
    for out in ("a", "b"):
        cli("train", "digits-mlp", "-n", "2", "--data", DATA, "--epochs", "2", "--out", out)
    a, b = (summary_of(cli.folder / out)["weights_sha256"] for out in ("a", "b"))
    assert a == b


def test_saved_config_feeds_a_new_run(cli: Any, summary_of: Any) -> None:
    first = ["--lr", "0.07", "--seed", "5", "--set", "train.augment=mirror"]
    cli("train", "digits-mlp", "--data", DATA, "--epochs", "2", *first, "--out", "a")
    cli("train", "-c", "a/config.toml", "--out", "b")
    assert (cli.folder / "a/config.toml").read_text() == (cli.folder / "b/config.toml").read_text()
    a, b = (summary_of(cli.folder / out)["weights_sha256"] for out in ("a", "b"))
    assert a == b


def test_session_cfg_of_theano_mpi(cli: Any, summary_of: Any) -> None:
    (cli.folder / "toy.py").write_text(
        "from torch import nn\n"
        "from arignote import Model\n"
        "class Toy(Model):\n"
        f"    defaults = {{'run.data': {DATA!r}, 'train.epochs': 2}}\n"
        "    def build(self):\n"
        "        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    (cli.folder / "session.cfg").write_text(
        "RULE=BSP\nMODELFILE=toy.py\nMODELCLASS=Toy\nDEVICES=cpu0,cpu1\n"
        "BSP_SYNC_TYPE=avg\nBSP_EXCH_STRATEGY=ar\n"
    )
    cli("train", "-c", "session.cfg", "--out", "run")
    summary = summary_of(cli.folder / "run")
    assert (summary["workers"], summary["rule"]) == (2, "bsp:scheme=weights")
    assert summary["exchange"] == "allreduce:fp32"


def test_python_interface_of_theano_mpi(cli: Any, summary_of: Any) -> None:
    (cli.folder / "start.py").write_text(
        "from arignote import BSP\n"
        "rule = BSP()\n"
        "rule.init(devices=['cpu0', 'cpu1'], modelfile='arignote.models.digits',\n"
        "          modelclass='DigitsMLP', out='run',\n"
        f"          settings={{'train.epochs': 2, 'run.data': {DATA!r}}})\n"
        "rule.wait()\n"
    )
    command = [sys.executable, "start.py"]
    subprocess.run(command, cwd=cli.folder, env=cli.environment, check=True, timeout=60)
    assert summary_of(cli.folder / "run")["workers"] == 2


NUMPY_MODEL = '''
import numpy as np


class Data:
    n_batch_train, n_batch_val = 20, 2


class Regression:
    """Least squares in plain NumPy, by Theano-MPI's contract."""

    def __init__(self, config):
        self.rank = config["rank"]
        self.params = [np.zeros(3), np.zeros(1)]
        self.data, self.epoch, self.n_epochs = Data(), 0, 4
        self.cleaned = False

    def _batch(self, count, salt):
        rows = np.random.default_rng((self.rank, self.epoch, count, salt)).normal(size=(8, 3))
        return rows, rows @ np.array([1.0, -2.0, 0.5]) + 0.25

    def _error(self, rows, wanted):
        return rows @ self.params[0] + self.params[1] - wanted

    def train_iter(self, count, recorder):
        recorder.start()
        rows, wanted = self._batch(count, 0)
        recorder.end("wait")
        error = self._error(rows, wanted)
        self.params[0] -= 0.1 * rows.T @ error / 8
        self.params[1] -= 0.1 * error.mean()
        recorder.train_error(count, float((error ** 2).mean()), 0.0)
        recorder.end("calc")

    def val_iter(self, count, recorder):
        error = self._error(*self._batch(count, 1))
        recorder.val_error(count, float((error ** 2).mean()), 0.0, 0.0)

    def adjust_hyperp(self, epoch):
        pass

    def cleanup(self):
        print("cleaned up", self.rank)
'''


def test_model_of_theano_mpis_contract_in_numpy(cli: Any, summary_of: Any) -> None:
    (cli.folder / "least_squares.py").write_text(NUMPY_MODEL)
    ended = cli(
        *("train", "least_squares.py:Regression", "-n", "2"),
        *("--rule", "bsp:scheme=weights", "--out", "run"),
    )
    summary = summary_of(cli.folder / "run")
    assert summary["metrics"]["loss"] < 1e-3
    assert summary["steps"] == 80
    assert ended.out.count("cleaned up") == 2
    path = cli.folder / "run/checkpoints/step-00000080/weights.safetensors"
    weights = load_file(path)
    assert weights["0"].tolist() == pytest.approx([1.0, -2.0, 0.5], abs=0.05)
    ended = cli("train", "least_squares.py:Regression", "-n", "2", "--out", "other", code=2)
    assert "this model shows no gradients" in ended.err
