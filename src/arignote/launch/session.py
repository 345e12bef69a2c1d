"""Theano-MPI's Python interface, on our launcher:

rule = BSP()          # or EASGD(alpha=0.5, period=10), ASGD(), GOSGD(p=0.01)
rule.init(devices=["cuda0", "cuda1"], modelfile="my_models.py", modelclass="MyModel")
rule.wait()
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from arignote import control
from arignote.config.load import nest, resolve, to_toml
from arignote.config.model_source import find_model
from arignote.config.rule_options import parse_rule
from arignote.config.session_cfg import FIRST_SERVES, SCHEMES, device_settings, model_spec
from arignote.errors import ArignoteError, UserError, unknown
from arignote.launch.check import check


class _Session:
    """A run, started from Python.

    Args:
        rule: as in `--rule`.
        exch_strategy: an exchange, or one of Theano-MPI's names.
    """

    def __init__(self, rule: str, exch_strategy: str) -> None:
        self._name = parse_rule(rule)[0]
        self._rule = rule
        self._exchange = exch_strategy
        self._process: subprocess.Popen[bytes] | None = None

    def init(
        self,
        devices: Sequence[str],
        modelfile: str,
        modelclass: str,
        *,
        out: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Start one worker a device; returns at once.

        Args:
            devices: `cuda0`, `cpu0`, or `host:cuda0,cuda1`; of EASGD and ASGD the first is the
                server's.
            modelfile, modelclass: a file or a dotted module, and the class in it.
            out: the run's folder.
            settings: any further settings by their dotted names, `{"train.epochs": 5}`.

        Raises:
            UserError: a mistake that can be known before a process is started.
        """
        if control.folder() is not None:
            raise UserError(
                "a worker's own file starts another run: put the lines with init() and wait() "
                "under `if __name__ == '__main__':` or into a file of their own"
            )
        if self._process is not None:
            raise UserError("this rule is running already: wait() for it, or make another")
        model = model_spec(modelfile, modelclass)
        source = find_model(model)
        own = {
            "run": {"model": model, "rule": self._rule, "exchange": self._exchange},
            "launch": device_settings(list(devices), server=self._name in FIRST_SERVES),
        }
        defaults = nest(source.defaults, f"{model}.defaults")
        resolved = resolve(
            [("", defaults), ("settings", nest(dict(settings or {}), "settings")), ("", own)]
        )
        check(resolved)
        with tempfile.NamedTemporaryFile("w", suffix=".toml", delete=False) as file:
            file.write(to_toml(resolved))
        self._config = Path(file.name)
        command = [sys.executable, "-m", "arignote", "train", "-c", file.name]
        self._process = subprocess.Popen([*command, "--out", out] if out else command)

    def wait(self) -> None:
        """Wait for the run to end.

        Raises:
            UserError: nothing was started.
            ArignoteError: the run failed; what was wrong stands on stderr.
        """
        if self._process is None:
            raise UserError("nothing was started: call init(devices, modelfile, modelclass) first")
        try:
            code = self._process.wait()
        finally:
            self._config.unlink(missing_ok=True)
        self._process = None
        if code:
            raise ArignoteError(f"the run ended with exit code {code}")


class BSP(_Session):
    """A bulk-synchronous run, started from Python.

    Args:
        sync_type: `cdd` (average gradients) or `avg` (average weights).
        exch_strategy: an exchange, or one of Theano-MPI's names.
    """

    def __init__(self, sync_type: str = "cdd", exch_strategy: str = "auto") -> None:
        if sync_type not in SCHEMES:
            raise UserError(unknown("sync_type", sync_type, SCHEMES))
        super().__init__(f"bsp:scheme={SCHEMES[sync_type]}", exch_strategy)


class _Asynchronous(_Session):
    def __init__(self, exch_strategy: str = "auto", **options: Any) -> None:
        given = ",".join(f"{name}={value}" for name, value in options.items())
        name = type(self).__name__.lower()
        super().__init__(f"{name}:{given}" if given else name, exch_strategy)


class EASGD(_Asynchronous):
    """Elastic averaging with a server, started from Python: `EASGD(alpha=0.5, period=10)`.

    Takes the options of `--rule easgd` by their names.
    """


class ASGD(_Asynchronous):
    """Asynchronous SGD with a server, started from Python: `ASGD(period=2)`.

    Takes the options of `--rule asgd` by their names.
    """


class GOSGD(_Asynchronous):
    """Gossip, started from Python: `GOSGD(p=0.01)`.

    Takes the options of `--rule gosgd` by their names.
    """
