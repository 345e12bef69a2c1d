"""What one host has, as JSON. Its text is sent to every host and run there by the Python that
workers would have: standard library only, and nothing newer than Python 3.8, because it must be
able to tell that a host has an old Python, or nothing of ours.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

PREFIX = "ARIGNOTE_FACTS "
"""Begins the line that holds the facts: a shell's greeting may stand before it."""

_PACKAGES = ("arignote", "torch", "numpy", "mpi4py", "numba", "pydantic", "psutil", "safetensors")
_MPI = """
import mpi4py
mpi4py.rc.initialize = False
from mpi4py import MPI
print(MPI.Get_library_version().strip("\\0 \\n").splitlines()[0])
"""
_GPUS = ("nvidia-smi", "--query-gpu=name,memory.free,memory.total", "--format=csv,noheader,nounits")
_CHILD_SECONDS = 20
_SIOCGIFADDR = 0x8915
_CPUS = Path("/sys/devices/system/cpu")
_GIB = 2.0**30


def gather(hosts: list[str]) -> dict[str, Any]:
    """All facts; `hosts`: those of the job, by the names that the user gave them."""
    mpi, problem = _mpi()
    total, free = _memory_gib()
    interfaces = _interfaces()
    return {
        "node": platform.node(),
        "python": platform.python_version(),
        "executable": sys.executable,
        "packages": {name: _version(name) for name in _PACKAGES},
        "code": _code("arignote"),
        "mpi": mpi,
        "mpi_problem": problem,
        "devices": _devices(),
        "cores": _cores(),
        "memory_gib": total,
        "free_memory_gib": free,
        "free_shared_memory_gib": _shared_memory_gib(),
        "interfaces": interfaces,
        "ways": {name: _way(name, interfaces) for name in hosts},
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _code(package: str) -> str | None:
    """The first digits of the SHA-256 of the package's Python files; None: it is not there."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations)))
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:12]


def _mpi() -> tuple[str | None, str]:
    """(name and version of the library that mpi4py loads, what went wrong)."""
    # In a child: loading a broken library may crash.
    printed, problem = _output([sys.executable, "-c", _MPI])
    if not printed.strip():
        return None, problem or "it prints nothing"
    return " ".join(printed.splitlines()[0].split(",")[0].split()), ""


def _output(command: list[str]) -> tuple[str, str]:
    """(what a command prints, why it failed)."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_CHILD_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return "", f"no end within {_CHILD_SECONDS} s"
    except OSError as error:
        return "", str(error)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return "", lines[-1] if lines else f"exit code {done.returncode}"
    return done.stdout, ""


def _devices() -> list[dict[str, Any]]:
    """NVIDIA's GPUs, by the driver's own tool: importing torch would take seconds and memory."""
    found = []
    for line in _output(list(_GPUS))[0].splitlines():
        fields = [field.strip() for field in line.split(",")]
        # A partitioned GPU says [N/A] of its memory.
        free, total = (float(f) / 1024 if f.isdigit() else 0.0 for f in fields[-2:])
        name = ", ".join(fields[:-2])
        found.append({"name": name, "free_gib": round(free, 1), "gib": round(total, 1)})
    return found


def _cores() -> int:
    """Physical cores that a process may use here, counted as `topology.machine` does."""
    siblings = set()
    for cpu in os.sched_getaffinity(0):
        try:
            siblings.add((_CPUS / f"cpu{cpu}/topology/thread_siblings_list").read_text())
        except OSError:
            siblings.add(str(cpu))
    return len(siblings)


def _memory_gib() -> tuple[float, float]:
    """(all, free)."""
    sizes = {}
    with open("/proc/meminfo", encoding="utf-8") as lines:  # noqa: PTH123
        for line in lines:
            name, value = line.split(":", 1)
            sizes[name] = float(value.split()[0]) / 2**20
    free = sizes.get("MemAvailable", sizes.get("MemFree", 0.0))
    return round(sizes["MemTotal"], 1), round(free, 1)


def _shared_memory_gib() -> float | None:
    try:
        found = os.statvfs("/dev/shm")
    except OSError:
        return None
    return round(found.f_bavail * found.f_frsize / _GIB, 1)


def _interfaces() -> dict[str, list[str]]:
    """Network interfaces and the addresses of each."""
    found: dict[str, list[str]] = {name: [] for _, name in socket.if_nameindex()}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for name, addresses in found.items():
            try:
                answer = fcntl.ioctl(asked, _SIOCGIFADDR, struct.pack("256s", name.encode()))
            except OSError:
                continue  # it has no IPv4 address
            addresses.append(socket.inet_ntoa(answer[20:24]))
    try:
        lines = Path("/proc/net/if_inet6").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        digits, name = line.split()[0], line.split()[-1]
        address = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits))
        found.setdefault(name, []).append(address)
    return found


def _way(name: str, interfaces: dict[str, list[str]]) -> str | None:
    """The interface through which packets leave for a host; None: its name is not known here."""
    try:
        entries = socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
    except OSError:
        return None
    for address in (str(entry[4][0]) for entry in entries):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            # Connecting a datagram socket sends nothing: it only asks the routing table.
            with socket.socket(family, socket.SOCK_DGRAM) as asked:
                asked.connect((address, 9))
                own = asked.getsockname()[0]
        except OSError:
            continue
        for interface, its in interfaces.items():
            if own in its:
                return interface
    return None


if __name__ == "__main__":
    sys.stdout.write(f"\n{PREFIX}{json.dumps(gather(json.loads(sys.argv[1])))}\n")
