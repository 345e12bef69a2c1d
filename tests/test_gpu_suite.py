"""scripts/test-gpu, where there is no GPU: what it refuses, and the page that it would write."""

from __future__ import annotations

import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import pytest

from arignote import accelerator
from arignote.errors import UserError
from arignote.launch import find

SCRIPT = Path(__file__).parents[1] / "scripts" / "test-gpu"
RATES = {
    "library": "MPI 1",
    "workers": 2,
    "elements": 1 << 26,
    "copy_seconds": 0.010,
    "device_seconds": 0.003,
    "asa_seconds": 0.0125,
    "ipc_seconds": 0.006,
    "nccl": "nccl cannot serve two workers on one GPU",
    "calc": 0.100,
    "after": 0.140,
    "beside": 0.110,
    "plain": 0.0495,
    "attached": 0.050,
}


@pytest.fixture
def suite(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script, as a module that leaves nothing behind."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(sys, "path", [*sys.path])
    loader = SourceFileLoader("gpu_suite", str(SCRIPT))
    module = module_from_spec(spec_from_loader("gpu_suite", loader))  # type: ignore[arg-type]
    loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", ["test-gpu"])
    return module


def test_no_gpu_is_told_in_one_line(
    suite: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(accelerator, "why_none", lambda: "its torch sees none")
    with pytest.raises(SystemExit) as caught:
        suite.main()
    assert caught.value.code == 2
    assert capsys.readouterr().err == (
        "test-gpu: no GPU here: its torch sees none; nothing was tested\n"
    )


def test_an_mpi_that_is_not_there(
    suite: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        suite.environment(tmp_path)
    assert f"no mpirun in {tmp_path / 'bin'}: give --mpi the folder" in capsys.readouterr().err
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "mpirun").touch()
    found = suite.environment(tmp_path)
    assert found["ARIGNOTE_MPIRUN"] == str(tmp_path / "bin" / "mpirun")
    assert found["LD_LIBRARY_PATH"].startswith(str(tmp_path / "lib"))


def test_no_mpi_is_told_in_one_line(
    suite: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nothing(settings: Any) -> None:
        raise UserError("no mpirun was found")

    monkeypatch.setattr(find, "find_launcher", nothing)
    with pytest.raises(SystemExit) as caught:
        suite.check_mpi({})
    assert caught.value.code == 2
    assert capsys.readouterr().err == (
        "test-gpu: no mpirun was found; or bring an MPI along: --mpi PREFIX\n"
    )


def test_what_was_reached(suite: Any) -> None:
    found = suite.ratios(RATES)
    assert found == {
        "staged asa / copies over the bus": pytest.approx(0.8),
        "ipc / copies on the device": pytest.approx(0.5),
        "plain torch / one worker": pytest.approx(0.99),
        "exchange hidden behind backward": pytest.approx(0.75),
    }
    assert set(suite.TARGETS) <= set(found)


def test_the_page(suite: Any) -> None:
    page = suite.report("GPU 1", "torch 2", 0, "40 passed", RATES, "")
    assert "| ipc / copies on the device | 0.500 | 0.70 |" in page
    assert "| nccl | nccl cannot serve two workers on one GPU |" in page
    assert "a vector of 0.25 GiB" in page
    page = suite.report("GPU 1", "torch 2", 1, "1 failed", {}, "worker 1 was killed")
    assert "exit code 1" in page
    assert "They could not be measured:\n\n```\nworker 1 was killed" in page
