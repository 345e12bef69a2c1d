"""What `bench straggler` and `bench centre` are asked for; torch stays out of here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from arignote.bench.request import parse_elements
from arignote.bench.rows import FP32_BYTES
from arignote.config.exchange_options import check_fits_rule, check_placement, parse_exchange
from arignote.config.rule_options import parse_rule
from arignote.errors import UserError

CENTRE_RULES = ("easgd", "asgd")
_LEAST_PERIODS = 4
_OF_A_WORKER = 4
"""Vectors: weights, gradient, and what MPI takes for its allreduce."""


@dataclass(frozen=True)
class StragglerRequest:
    """`arignote bench straggler`, resolved."""

    rules: Sequence[str]
    exchange: str
    elements: int
    slow: float
    """How many times longer the last worker's steps take."""
    step_seconds: float
    seconds: float
    """For each rule."""
    settings: dict[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """As an argument of the worker program."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class CentreRequest:
    """`arignote bench centre`, resolved."""

    rule: str
    elements: int
    period: int
    step_seconds: float
    seconds: float
    """For each measurement."""
    settings: dict[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """As an argument of the worker program."""
        return json.dumps(asdict(self))

    def memory_gib(self, workers: int) -> float:
        """What they, and the centre, need on one host for their vectors."""
        return (workers * _OF_A_WORKER + 1) * FP32_BYTES * self.elements / 2**30


def parse_rules(text: str, exchange: str, *, hosts: int) -> list[str]:
    """`bsp,diloco:period=5,own=1` -> the rules, each once; a part `key=value` goes on the last.

    Raises:
        UserError: one is unknown, or does not go with this exchange or so many hosts.
    """
    parts: list[str] = []
    for part in text.split(","):
        key, _, _ = part.partition("=")
        if parts and key != part and ":" not in key:
            parts[-1] += f",{part}"
        else:
            parts.append(part.strip())
    if not all(parts):
        raise UserError(f"--rules: got {text!r}, expected names with single commas between them")
    spec = parse_exchange(exchange)
    check_placement(spec, devices=[], hosts=hosts)
    for part in parts:
        _, options = parse_rule(part)
        check_fits_rule(spec, part, options.carries)
    return list(dict.fromkeys(parts))


def parse_centre_rule(text: str, period: int) -> str:
    """`easgd:alpha=0.9` -> `easgd:alpha=0.9,period=10`.

    Raises:
        UserError: it is unknown, has no centre, or has a period of its own.
    """
    name, options = parse_rule(text)
    if not options.has_centre:
        raise UserError(f"--rule: {name} has no centre: use {' or '.join(CENTRE_RULES)}")
    if "period" in options.model_fields_set:
        raise UserError("--rule: name the period by --period")
    full = f"{text}{',' if ':' in text else ':'}period={period}"
    parse_rule(full)
    return full


def one_size(text: str) -> int:
    """The elements of a vector.

    Raises:
        UserError: no whole number, or several.
    """
    found = parse_elements(text)
    if len(found) > 1:
        raise UserError(f"--elements: got {text!r}, expected one number")
    return found[0]


def check_servers(servers: int, elements: int) -> None:
    """Raise a UserError if a server would have nothing to hold."""
    if servers > elements:
        raise UserError(
            f"--servers: got {servers} for a vector of {elements} elements: use {elements} or fewer"
        )


def check_slow(slow: float) -> float:
    """Raise a UserError if that is no factor by which a step gets longer."""
    if not 1 <= slow <= 1000:
        raise UserError(f"--slow: got {slow:g}, expected 1 to 1000")
    return slow


def check_window(seconds: float, period: int, step_seconds: float) -> float:
    """Raise a UserError if too few visits fall into what is measured."""
    least = _LEAST_PERIODS * period * step_seconds
    if seconds < least:
        raise UserError(
            f"--seconds: got {seconds:g}, expected at least {least:g}: {_LEAST_PERIODS} periods of "
            f"{period} steps of {step_seconds:g} s"
        )
    return seconds
