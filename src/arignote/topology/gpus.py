"""What can be known of GPUs, their driver and torch's build without loading torch, and why there
may be no GPU for a worker: in one line, with the remedy.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from arignote.config.devices import VISIBLE, VISIBLE_OF_AMD

PROC, DEV = Path("/proc"), Path("/dev")
_GET_TORCH = "https://pytorch.org/get-started/locally"


@dataclass(frozen=True)
class TorchBuild:
    """What the installed torch was built for."""

    version: str
    cuda: str
    """The version of CUDA; empty: none."""
    hip: str
    """The version of ROCm's HIP; empty: none."""

    @property
    def for_gpus(self) -> bool:
        """Whether it can compute on any."""
        return bool(self.cuda or self.hip)


def torch_build() -> TorchBuild | None:
    """Of the torch that a worker would load here; None: there is none."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    # Not imported: that takes a second, and this may be the launcher.
    return read_build((Path(spec.origin).parent / "version.py").read_text(encoding="utf-8"))


def read_build(source: str) -> TorchBuild:
    """From the text of torch/version.py, whose values are literals."""
    found = dict(re.findall(r"^(\w+)(?:\s*:[^=]*)?\s*=\s*'([^']*)'", source, re.MULTILINE))
    return TorchBuild(found.get("__version__", "?"), found.get("cuda", ""), found.get("hip", ""))


def driver_version(proc: Path = PROC) -> str:
    """Of NVIDIA's kernel driver; empty: it is not loaded.

    >>> driver_version(Path("/nowhere"))
    ''
    """
    try:
        text = (proc / "driver/nvidia/version").read_text()
    except OSError:
        return ""
    match = re.search(r"Kernel Module.*?\s(\d+\.\d[\d.]*)", text)
    return match.group(1) if match else "unknown"


def visible_gpus(
    build: TorchBuild, *, dev: Path = DEV, environment: Mapping[str, str] = os.environ
) -> int | None:
    """How many GPUs a torch of this build would see here; None: it cannot be known without it."""
    chosen = [len(_entries(text)) for _, text in _chosen(build, environment)]
    if build.hip or (dev / "dxg").exists():
        # Neither AMD's driver nor Windows' has a file for each.
        return min(chosen) if 0 in chosen else None
    return min([len(list(dev.glob("nvidia[0-9]*"))), *chosen])


def hiding(build: TorchBuild, environment: Mapping[str, str] = os.environ) -> str:
    """`CUDA_VISIBLE_DEVICES='0'`, where such a variable is set; else empty."""
    return ", ".join(f"{name}={text!r}" for name, text in _chosen(build, environment))


def _chosen(build: TorchBuild, environment: Mapping[str, str]) -> list[tuple[str, str]]:
    names = VISIBLE_OF_AMD if build.hip else (VISIBLE,)
    return [(name, environment[name]) for name in names if name in environment]


def _entries(text: str) -> list[str]:
    """The driver reads numbers and UUIDs up to the first that is none."""
    found: list[str] = []
    for entry in text.split(","):
        if not re.fullmatch(r"\d+|(?:GPU|MIG)-[\w/-]+", entry.strip()):
            break
        found.append(entry)
    return found


def why_no_gpu(
    build: TorchBuild | None,
    *,
    newest: str = "",
    said: str = "",
    proc: Path = PROC,
    environment: Mapping[str, str] = os.environ,
) -> str:
    """Why torch has no GPU here, and what to do.

    Args:
        newest: the version of CUDA up to which the driver knows it; empty: not known.
        said: torch's own words, if it said any.
    """
    if build is None or not build.for_gpus:
        version = "none" if build is None else build.version
        return (
            f"its torch ({version}) is built without CUDA and ROCm: install one with: {_GET_TORCH}"
        )
    for name, text in _chosen(build, environment):
        if not _entries(text):
            return f"{name}={text!r} hides all of them: unset it, or name some"
    if build.hip:
        return (
            f"its torch ({build.version}) is built for ROCm {build.hip}, and finds none: see "
            "whether rocm-smi does, and whether this user may open /dev/kfd"
        )
    return _without_cuda(build, driver_version(proc), newest, said)


def _without_cuda(build: TorchBuild, driver: str, newest: str, said: str) -> str:
    if not driver:
        return (
            f"its torch ({build.version}) is built for CUDA {build.cuda}, and no NVIDIA driver is "
            "loaded there: install one (nvidia-smi must work), or let the container have GPUs "
            "(docker: --gpus all)"
        )
    # A driver for one minor version of CUDA runs what is built for the others of that major one.
    if newest and int(newest.partition(".")[0]) < int(build.cuda.partition(".")[0]):
        known = f", which knows CUDA up to {newest}"
    else:
        first = re.split(r"\.\s+(?=[A-Z])|\n", said.strip())[0].strip(" .")
        known = f" ({first})" if first else ""
    return (
        f"its torch ({build.version}) is built for CUDA {build.cuda}, and the NVIDIA driver there "
        f"is {driver}{known}: update the driver, or install a torch for an older CUDA: "
        f"{_GET_TORCH}"
    )
