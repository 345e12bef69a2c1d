"""Why there is no GPU for a worker."""

from __future__ import annotations

import importlib.util

import pytest

from arignote.topology.gpus import (
    TorchBuild,
    driver_version,
    hiding,
    read_build,
    torch_build,
    visible_gpus,
    why_no_gpu,
)

CPU = TorchBuild("2.13.0+cpu", "", "")
CUDA = TorchBuild("2.13.0+cu130", "13.0", "")
ROCM = TorchBuild("2.13.0+rocm7.1", "", "7.1.5")

DRIVERS = {
    "closed": (
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n"
        "GCC version:  gcc version 12.2.0\n",
        "535.104.05",
    ),
    "open": (
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.15  Release Build\n",
        "550.54.15",
    ),
    "strange": ("NVRM version: something else\n", "unknown"),
}


@pytest.fixture
def proc(tmp_path):
    """A /proc with this text of NVIDIA's driver."""

    def write(text):
        path = tmp_path / "driver/nvidia/version"
        path.parent.mkdir(parents=True)
        path.write_text(text)
        return tmp_path

    return write


def test_torchs_build():
    source = (
        "from typing import Optional\n__version__ = '2.9.0+cu128'\ncuda: Optional[str] = '12.8'\n"
    )
    assert read_build(source + "hip: Optional[str] = None\n") == TorchBuild(
        "2.9.0+cu128", "12.8", ""
    )
    assert read_build("__version__ = '2.4'\ncuda = None\nhip = '6.1.2'\n") == TorchBuild(
        "2.4", "", "6.1.2"
    )


def test_torchs_build_here():
    import torch

    expected = (str(torch.__version__), torch.version.cuda or "", torch.version.hip or "")
    build = torch_build()
    assert build is not None
    assert (build.version, build.cuda, build.hip) == expected


def test_no_torch(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert torch_build() is None


@pytest.mark.parametrize("kind", DRIVERS)
def test_the_drivers_version(proc, kind):
    text, version = DRIVERS[kind]
    assert driver_version(proc(text)) == version


@pytest.mark.parametrize(
    ("variables", "count"),
    [
        ({}, 3),
        ({"CUDA_VISIBLE_DEVICES": "1"}, 1),
        ({"CUDA_VISIBLE_DEVICES": "2, 0"}, 2),
        ({"CUDA_VISIBLE_DEVICES": "0,-1,1"}, 1),
        ({"CUDA_VISIBLE_DEVICES": ""}, 0),
        ({"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, 0),
        ({"CUDA_VISIBLE_DEVICES": "GPU-1a2b,MIG-3c/1/0"}, 2),
        ({"CUDA_VISIBLE_DEVICES": "0,1,2,3,4"}, 3),
        # Of NVIDIA's they say nothing.
        ({"HIP_VISIBLE_DEVICES": ""}, 3),
    ],
)
def test_gpus_that_torch_would_see(tmp_path, variables, count):
    for name in ("nvidia0", "nvidia1", "nvidia2", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert visible_gpus(CUDA, dev=tmp_path, environment=variables) == count
    # AMD's have no files to count.
    expected = 0 if "" in variables.values() or count == 0 else None
    assert visible_gpus(ROCM, dev=tmp_path, environment=variables) == expected


def test_what_hides_gpus():
    variables = {"CUDA_VISIBLE_DEVICES": "1", "ROCR_VISIBLE_DEVICES": "0"}
    assert hiding(CUDA, variables) == "CUDA_VISIBLE_DEVICES='1'"
    assert hiding(ROCM, variables) == "CUDA_VISIBLE_DEVICES='1', ROCR_VISIBLE_DEVICES='0'"
    assert hiding(CUDA, {}) == ""


STRANGE = (
    "CUDA initialization: CUDA unknown error - this may be due to an incorrectly set up "
    "environment, e.g. changing env variable. Setting the available devices to be zero."
)


@pytest.mark.parametrize(
    ("build", "driver", "torch_says", "variables", "line"),
    [
        (
            CPU,
            "closed",
            {},
            {},
            "its torch (2.13.0+cpu) is built without CUDA and ROCm: install one with: "
            "https://pytorch.org/get-started/locally",
        ),
        (
            CUDA,
            None,
            {},
            {},
            "its torch (2.13.0+cu130) is built for CUDA 13.0, and no NVIDIA driver is loaded "
            "there: install one (nvidia-smi must work), or let the container have GPUs (docker: "
            "--gpus all)",
        ),
        (
            CUDA,
            "closed",
            {"newest": "12.4", "said": STRANGE},
            {},
            "its torch (2.13.0+cu130) is built for CUDA 13.0, and the NVIDIA driver there is "
            "535.104.05, which knows CUDA up to 12.4: update the driver, or install a torch for an "
            "older CUDA: https://pytorch.org/get-started/locally",
        ),
        (
            CUDA,
            "open",
            {"newest": "13.0", "said": STRANGE},
            {},
            "its torch (2.13.0+cu130) is built for CUDA 13.0, and the NVIDIA driver there is "
            "550.54.15 (CUDA initialization: CUDA unknown error - this may be due to an "
            "incorrectly set up environment, e.g. changing env variable): update the driver, or "
            "install a torch for an older CUDA: https://pytorch.org/get-started/locally",
        ),
        (
            CUDA,
            "closed",
            {},
            {"CUDA_VISIBLE_DEVICES": "-1"},
            "CUDA_VISIBLE_DEVICES='-1' hides all of them: unset it, or name some",
        ),
        (
            ROCM,
            None,
            {},
            {"ROCR_VISIBLE_DEVICES": ""},
            "ROCR_VISIBLE_DEVICES='' hides all of them: unset it, or name some",
        ),
        (
            ROCM,
            None,
            {},
            {},
            "its torch (2.13.0+rocm7.1) is built for ROCm 7.1.5, and finds none: see whether "
            "rocm-smi does, and whether this user may open /dev/kfd",
        ),
    ],
)
def test_why(proc, tmp_path, build, driver, torch_says, variables, line):
    where = proc(DRIVERS[driver][0]) if driver else tmp_path
    assert why_no_gpu(build, **torch_says, proc=where, environment=variables) == line
    assert why_no_gpu(None, environment={}).startswith("its torch (none) is built without")
