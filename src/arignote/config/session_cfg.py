"""Theano-MPI's session.cfg: shell assignments, which we parse and never execute.

RULE=BSP
MODELFILE=my_models/alex_net.py
MODELCLASS=AlexNet
DEVICES=cuda0,cuda1              or  DEVICES=('host1:cuda0,cuda1' 'host2:cuda0')
BSP_SYNC_TYPE=cdd                gradient (cdd) or weights (avg)
BSP_EXCH_STRATEGY=ar
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

from arignote.config.devices import parse_device
from arignote.errors import UserError, unknown

_ASSIGNMENT = re.compile(r"^\s*(?:export\s+)?([A-Za-z_]+)=(.*)$", re.DOTALL)
_KEYS = ("RULE", "MODELFILE", "MODELCLASS", "DEVICES", "BSP_SYNC_TYPE", "BSP_EXCH_STRATEGY")
SCHEMES = {"cdd": "gradient", "avg": "weights"}
"""Theano-MPI's sync types -> our names of the schemes."""


def read_session_cfg(text: str, path: str) -> dict[str, Any]:
    """The file's content as a layer of settings.

    Raises:
        UserError: a line is no assignment, a key or a value is unknown.
    """
    values = _assignments(text, path)
    layer: dict[str, Any] = {"run": {}, "launch": {}}
    if "MODELFILE" in values or "MODELCLASS" in values:
        layer["run"]["model"] = model_spec(
            values.get("MODELFILE", ""), values.get("MODELCLASS", "")
        )
    rule = values.get("RULE", "BSP").lower()
    sync = values.get("BSP_SYNC_TYPE", "")
    if sync and rule == "bsp":
        if sync not in SCHEMES:
            raise UserError(f"{path}: {unknown('BSP_SYNC_TYPE', sync, SCHEMES)}")
        rule += f":scheme={SCHEMES[sync]}"
    layer["run"]["rule"] = rule
    if values.get("BSP_EXCH_STRATEGY"):
        layer["run"]["exchange"] = values["BSP_EXCH_STRATEGY"]
    if values.get("DEVICES"):
        layer["launch"] |= device_settings(_array(values["DEVICES"], path))
    return layer


def model_spec(modelfile: str, modelclass: str) -> str:
    """MODELFILE (a path or a dotted module) and MODELCLASS as one MODEL."""
    if not modelfile or not modelclass:
        raise UserError(
            f"a model needs a file and a class: got modelfile={modelfile!r}, "
            f"modelclass={modelclass!r}"
        )
    return f"{modelfile}:{modelclass}"


def device_settings(entries: list[str]) -> dict[str, Any]:
    """['cuda0,cuda1'] or ['host1:cuda0,cuda1', 'host2:cuda0'] as launch settings."""
    devices: list[str] = []
    hosts: list[str] = []
    for entry in entries:
        # A device may hold a colon too: `cuda:0` is no host called cuda.
        named = re.match(r"^(?!(?:cuda|cpu)\d*[:,]|(?:cuda|cpu)\d*$)([^:,]+):(.+)$", entry)
        own = [device for device in (named.group(2) if named else entry).split(",") if device]
        devices += [parse_device(device) for device in own]
        if named:
            hosts.append(f"{named.group(1)}:{len(own)}")
    settings: dict[str, Any] = {"devices": devices, "workers": max(1, len(devices))}
    if hosts:
        settings["hosts"] = hosts
    return settings


def _assignments(text: str, path: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for number, bare in _statements(text):
        match = _ASSIGNMENT.match(bare)
        if match is None:
            raise UserError(f"{path}: {bare!r} in line {number} is no KEY=value")
        key, value = match.group(1), match.group(2).strip()
        if key not in _KEYS:
            raise UserError(f"{path}: {unknown('key', key, _KEYS)}")
        values[key] = value if key == "DEVICES" else value.strip("'\"")
    return values


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """(line number, statement) without comments; an array over several lines is one."""
    held: list[str] = []
    begun = 0
    for number, line in enumerate(text.splitlines(), start=1):
        bare = line.split("#", 1)[0].strip()
        if not bare:
            continue
        begun = begun if held else number
        held.append(bare)
        whole = " ".join(held)
        if whole.count("(") <= whole.count(")"):
            yield begun, whole
            held = []
    if held:
        yield begun, " ".join(held)


def _array(value: str, path: str) -> list[str]:
    """`'a' 'b'`, with or without parentheses around, as a shell would split it."""
    try:
        return shlex.split(value[1:-1] if value[0] + value[-1] == "()" else value)
    except ValueError as error:
        problem = str(error).lower()
        raise UserError(f"{path}: DEVICES={value} cannot be split: {problem}") from None
