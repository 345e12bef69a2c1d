"""Theano-MPI's Python interface, on our launcher:

rule = BSP()
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
from arignote.config.session_cfg import SCHEMES, device_settings, model_spec
from arignote.errors import ArignoteError, UserError, unknown
from arignote.launch.placement import place
from arignote.launch.start import check


class BSP:
    """A bulk-synchronous run, started from Python.

    Args:
        sync_type: `cdd` (average gradients) or `avg` (average weights).
        exch_strategy: an exchange, or one of Theano-MPI's names.
    """

    def __init__(self, sync_type: str = "cdd", exch_strategy: str = "auto") -> None:
        if sync_type not in SCHEMES:
            raise UserError(unknown("sync_type", sync_type, SCHEMES))
        self._rule = f"bsp:scheme={SCHEMES[sync_type]}"
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
            devices: `cuda0`, `cpu0`, or `host:cuda0,cuda1`.
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
            "launch": device_settings(list(devices)),
        }
        defaults = nest(source.defaults, f"{model}.defaults")
        resolved = resolve(
            [("", defaults), ("settings", nest(dict(settings or {}), "settings")), ("", own)]
        )
        check(resolved)
        place(resolved.launch)
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
