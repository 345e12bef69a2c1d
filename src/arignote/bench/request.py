"""What a bench is asked for, checked before any process starts; torch stays out of here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from arignote.config.exchange_options import AUTO, ROUTE_CODECS, check_placement, parse_exchange
from arignote.errors import UserError, unknown
from arignote.registry import ROUTES

EXCHANGE_PEERS = ("mpi", "gloo")
STEP_PEERS = ("ddp",)
MOST_ELEMENTS = 10**11
_OWN_MEMORY = (AUTO, "shm", "hier")
_NO_MEAN_OF_ALL = ("pair",)


@dataclass(frozen=True)
class ExchangeRequest:
    """`arignote bench exchange`, resolved."""

    elements: Sequence[int]
    exchanges: Sequence[str]
    """Empty: all lossless ones that these workers have, and auto."""
    peers: Sequence[str]
    seconds: float
    """For each size."""
    settings: dict[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """As an argument of the worker program."""
        return json.dumps(asdict(self))

    def memory_gib(self, workers: int) -> float:
        """What `workers` on one host need for their vectors, at the largest size."""
        names = [parse_exchange(text) for text in self.exchanges]
        own = sum(spec.route in _OWN_MEMORY for spec in names) if names else len(_OWN_MEMORY)
        lossy = sum(spec.codec != "fp32" for spec in names)
        # The numbers as they were, those that plain routes share, and a copy that auto makes.
        vectors = 3 + own + 2 * lossy
        return workers * vectors * 4 * max(self.elements) / 2**30


@dataclass(frozen=True)
class StepRequest:
    """`arignote bench step`, resolved."""

    peers: Sequence[str]
    steps: int
    settings: dict[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """As an argument of the worker program."""
        return json.dumps(asdict(self))


def check_precision(precision: str) -> None:
    """Raise a UserError if `train.precision` is none that all loops of `bench step` have."""
    if precision not in ("auto", "fp32"):
        raise UserError(f"train.precision: got {precision}, but bench step compares fp32 alone")


def parse_elements(text: str) -> list[int]:
    """`1000,25_000_000` -> [1000, 25000000], ascending, each once.

    Raises:
        UserError: one is no whole number, or out of range.
    """
    return parse_counts("--elements", text, MOST_ELEMENTS, "1000,25000000")


def parse_counts(option: str, text: str, most: int, example: str) -> list[int]:
    """Whole numbers from 1 to `most`, ascending, each once; `example` is one of `text`.

    Raises:
        UserError: one is none, or out of range.
    """
    found = set()
    for part in text.split(","):
        try:
            count = int(part)
        except ValueError:
            count = 0
        if not 1 <= count <= most:
            raise UserError(
                f"{option}: got {part.strip()!r}, expected whole numbers from 1 to {most}, such as "
                f"{example}"
            )
        found.add(count)
    return sorted(found)


def parse_exchanges(text: str, *, hosts: int) -> list[str]:
    """`shm,asa:topk,k=0.01,auto` -> the full names, each once; a part with `=` goes on the last.

    Raises:
        UserError: one is unknown, or cannot serve workers on so many hosts.
    """
    parts: list[str] = []
    for part in text.split(","):
        if "=" in part and parts:
            parts[-1] += f",{part}"
        else:
            parts.append(part.strip())
    names: dict[str, None] = {}
    for part in parts:
        spec = parse_exchange(part)
        if spec.route in _NO_MEAN_OF_ALL:
            raise UserError(f"{part} trades vectors between two workers: no mean of all to time")
        check_placement(spec, devices=[], hosts=hosts)
        names[spec.name] = None
    return list(names)


def parse_peers(text: str, known: Sequence[str]) -> list[str]:
    """`mpi,gloo` -> the peers, each once; an empty text or `none` is none.

    Raises:
        UserError: one is unknown.
    """
    names: dict[str, None] = {}
    for part in text.split(","):
        name = part.strip()
        if name in ("", "none"):
            continue
        if name not in known:
            raise UserError(unknown("peer", name, known))
        names[name] = None
    return list(names)


def default_exchanges(hosts: Sequence[str]) -> list[str]:
    """Every lossless exchange for CPU workers that are on `hosts` (a name a worker), and auto."""
    count = len(set(hosts))
    names = []
    for route in ROUTE_CODECS:
        if route not in ROUTES or route in _NO_MEAN_OF_ALL:
            continue
        if route == "hier" and not 1 < count < len(hosts):
            continue
        spec = parse_exchange(route)
        try:
            check_placement(spec, devices=[], hosts=count)
        except UserError:
            continue
        names.append(spec.name)
    return [*names, AUTO]
