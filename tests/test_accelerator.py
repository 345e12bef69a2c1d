"""The one file that calls torch.cuda: that it is the one, and what it says where there is none."""

from __future__ import annotations

import ast
import warnings
from pathlib import Path

import pytest
import torch

import arignote
from arignote import accelerator
from arignote.comm.location import pick_device
from arignote.comm.serial import SerialWorld
from arignote.errors import UserError
from arignote.topology import gpus

SOURCE = Path(arignote.__file__).parent
KNOW_THE_WORD = {
    "accelerator.py",
    "config/devices.py",
    "comm/cuda_aware.py",  # what MPIs call it
    "topology/gpus.py",  # what torch's own file of versions calls it
}
TERM = "cuda_aware"
"""What the field calls an MPI that takes pointers into a GPU's memory, on ROCm too."""


def words(path: Path) -> set[str]:
    """Names, attributes and texts of the code at `path` (not its docstrings) that say the word."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value.value = ""
        name = getattr(node, "id", None) or getattr(node, "attr", None) or getattr(node, "arg", "")
        text = node.value if isinstance(node, ast.Constant) else name
        if isinstance(text, str):
            # In prose it is a proper name: "CUDA-aware", "built without CUDA".
            found |= {word for word in text.split() if "cuda" in word or "CUDA_" in word}
    return {word for word in found if TERM not in word}


def test_the_word_stands_in_one_place() -> None:
    others = {
        name: found
        for path in SOURCE.rglob("*.py")
        if (name := path.relative_to(SOURCE).as_posix()) not in KNOW_THE_WORD
        and (found := words(path))
    }
    assert others == {}
    assert "torch.cuda" in (SOURCE / "accelerator.py").read_text()
    assert words(SOURCE / "accelerator.py")


def built(monkeypatch: pytest.MonkeyPatch, version: str | None, driver: int) -> None:
    """A torch that is built for CUDA `version`, on a machine whose driver knows `driver`."""
    monkeypatch.setattr(torch.version, "cuda", version)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch._C, "_cuda_getDriverVersion", lambda: driver, raising=False)


@pytest.mark.parametrize(
    ("version", "driver", "expected"),
    [
        (None, 0, "is built without CUDA and ROCm: install one with"),
        ("13.0", 0, "is built for CUDA 13.0, and the NVIDIA driver there is 535.1: update"),
        # Minor versions run on one another.
        ("12.8", 12020, "is built for CUDA 12.8, and the NVIDIA driver there is 535.1: update"),
        ("12.8", 13000, "is built for CUDA 12.8, and the NVIDIA driver there is 535.1: update"),
        ("13.0", 12020, "driver there is 535.1, which knows CUDA up to 12.2: update the driver"),
    ],
)
def test_why_there_is_none(
    monkeypatch: pytest.MonkeyPatch, version: str | None, driver: int, expected: str
) -> None:
    built(monkeypatch, version, driver)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpus, "driver_version", lambda proc: "535.1")
    assert expected in accelerator.why_none()


def test_what_torch_says_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing() -> bool:
        warnings.warn("CUDA initialization: unknown error. Setting", UserWarning, stacklevel=1)
        return False

    built(monkeypatch, "12.8", 12080)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", failing)
    monkeypatch.setattr(gpus, "driver_version", lambda proc: "535.1")
    assert (
        "driver there is 535.1 (CUDA initialization: unknown error): up" in accelerator.why_none()
    )


def test_a_torch_for_rocm(monkeypatch: pytest.MonkeyPatch) -> None:
    built(monkeypatch, None, 0)
    monkeypatch.setattr(torch.version, "hip", "6.2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert accelerator.why_none() == ""


def test_a_worker_whose_device_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    built(monkeypatch, "13.0", 12020)
    message = (
        r"^worker 0 \(host .*, pid \d+\) cannot use device cuda:0: its torch \(.*CUDA 13.0, and"
    )
    with pytest.raises(UserError, match=message):
        pick_device(["cuda:0"], SerialWorld())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    message = r"cannot use device cuda:1: it sees one GPU there; use --devices cuda, which shares"
    with pytest.raises(UserError, match=message):
        pick_device(["cuda:1"], SerialWorld())


def test_identity_and_loans(monkeypatch: pytest.MonkeyPatch) -> None:
    class Properties:
        uuid = "GPU-5"
        pci_domain_id, pci_bus_id, pci_device_id = 0, 0x3B, 0

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)
    assert accelerator.identity(torch.device("cuda:0")) == "GPU-5"
    assert accelerator.pci_address(torch.device("cuda:0")) == "0000:3b:00.0"
    # A torch that does not tell.
    del Properties.pci_bus_id
    assert accelerator.pci_address(torch.device("cuda:0")) == ""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(LookupError, match="GPU GPU-6 is hidden from it"):
        accelerator.borrow({"device": "GPU-6"}, torch.zeros(1))
