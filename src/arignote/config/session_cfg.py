"""Theano-MPI's session.cfg: shell assignments, which we parse and never execute.

RULE=BSP
MODELFILE=my_models/alex_net.py
MODELCLASS=AlexNet
DEVICES=cuda0,cuda1              or  DEVICES=('host1:cuda0,cuda1' 'host2:cuda0')
                                 of EASGD and ASGD the first is the server's
SIZE=2                           as many as DEVICES says: not read
BSP_SYNC_TYPE=cdd                gradient (cdd) or weights (avg); swap is a rule of its own here
BSP_EXCH_STRATEGY=ar
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

from arignote.config.devices import KINDS, parse_device
from arignote.errors import UserError, unknown

_ASSIGNMENT = re.compile(r"^\s*(?:export\s+)?([A-Za-z_]+)=(.*)$", re.DOTALL)
_KEYS = (
    *("RULE", "MODELFILE", "MODELCLASS", "DEVICES", "SIZE"),
    *("BSP_SYNC_TYPE", "BSP_EXCH_STRATEGY"),
)
SCHEMES = {"cdd": "gradient", "avg": "weights"}
"""Theano-MPI's sync types -> our names of the schemes."""
FIRST_SERVES = ("easgd", "asgd")
"""Rules whose server takes the first of the devices, as in Theano-MPI."""


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
        if sync not in (*SCHEMES, "swap"):
            raise UserError(f"{path}: {unknown('BSP_SYNC_TYPE', sync, (*SCHEMES, 'swap'))}")
        rule = "swap" if sync == "swap" else f"bsp:scheme={SCHEMES[sync]}"
    layer["run"]["rule"] = rule
    if values.get("BSP_EXCH_STRATEGY"):
        layer["run"]["exchange"] = values["BSP_EXCH_STRATEGY"]
    if values.get("DEVICES"):
        entries = _array(values["DEVICES"], path)
        layer["launch"] |= device_settings(entries, server=rule in FIRST_SERVES)
    return layer


def model_spec(modelfile: str, modelclass: str) -> str:
    """MODELFILE (a path or a dotted module) and MODELCLASS as one MODEL."""
    if not modelfile or not modelclass:
        raise UserError(
            f"a model needs a file and a class: got modelfile={modelfile!r}, "
            f"modelclass={modelclass!r}"
        )
    return f"{modelfile}:{modelclass}"


def device_settings(entries: list[str], *, server: bool = False) -> dict[str, Any]:
    """['cuda0,cuda1'] or ['host1:cuda0,cuda1', 'host2:cuda0'] as launch settings.

    Args:
        server: the first device is a server's. It is the last process, so its host comes last.

    Raises:
        UserError: a device cannot be parsed, or the server leaves none.
    """
    by_host: dict[str, list[str]] = {}
    for entry in entries:
        # A device may hold a colon too: `cuda:0` is no host called cuda.
        named = re.match(rf"^(?!{KINDS}\d*[:,]|{KINDS}\d*$)([^:,]+):(.+)$", entry)
        own = [device for device in (named.group(2) if named else entry).split(",") if device]
        host = named.group(1) if named else ""
        by_host.setdefault(host, []).extend(parse_device(device) for device in own)
    slots = {host: len(own) for host, own in by_host.items()}
    if server:
        if sum(slots.values()) < 2:
            raise UserError(
                f"devices {entries}: the first is the server's, and that leaves none for a worker: "
                "name more, or choose another rule"
            )
        first = next(host for host, own in by_host.items() if own)
        by_host[first] = by_host.pop(first)[1:]
    devices = [device for own in by_host.values() for device in own]
    settings: dict[str, Any] = {"devices": devices, "workers": max(1, len(devices))}
    if any(by_host):
        settings["hosts"] = [f"{host}:{slots[host]}" for host in by_host if host]
    return settings | {"servers": 1} if server else settings


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
