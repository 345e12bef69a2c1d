"""`scripts/netlab` for tests, where this machine permits it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "netlab"
SSHD = "/usr/sbin/sshd"
TESTS = Path(__file__).parents[1]
REFUSALS = (
    "only root|no program '(ip|tc|mount|unshare|nsenter)'|permits no namespaces|"
    "not permitted|ermission denied|Unknown device type|qdisc kind is unknown"
)


@dataclass
class Ended:
    """How a netlab ended."""

    code: int
    out: str
    err: str


class Netlab:
    """Runs `netlab ...` in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("ARIGNOTE_")}
        # By this a test session knows its own worker processes.
        self.environment["ARIGNOTE_TEST"] = str(os.getpid())
        before = self.environment.get("PYTHONPATH", "")
        self.environment["PYTHONPATH"] = os.pathsep.join(
            filter(None, [str(TESTS / "lean"), before])
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start it and return at once."""
        return subprocess.Popen(
            [sys.executable, str(SCRIPT), *arguments],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: str, code: int = 0, timeout: float = 100) -> Ended:
        """Run it to its end, which must come with exit code `code`."""
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"still running after {timeout} s: {out}\n{err}") from None
        assert process.returncode == code, f"exit code {process.returncode}\n{out}\n{err}"
        return Ended(process.returncode, out, err)


@pytest.fixture
def netlab_anywhere(tmp_path: Path) -> Netlab:
    """netlab, also where it can only refuse."""
    return Netlab(tmp_path)


@pytest.fixture(scope="session")
def refusal(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Why this machine permits no netlab; empty: it does."""
    process = Netlab(tmp_path_factory.mktemp("netlab")).start("2", "1gbit", "--", "true")
    error = process.communicate(timeout=60)[1].strip()
    return error if re.search(REFUSALS, error) else ""


@pytest.fixture
def netlab(netlab_anywhere: Netlab, refusal: str) -> Netlab:
    """netlab; the test is skipped where the machine does not permit it."""
    if refusal:
        pytest.skip(refusal)
    return netlab_anywhere


@pytest.fixture
def sshd_netlab(netlab: Netlab) -> Netlab:
    """netlab, for labs with --sshd."""
    if not Path(SSHD).exists():
        pytest.skip(f"no {SSHD}: apt-get install openssh-server")
    return netlab
