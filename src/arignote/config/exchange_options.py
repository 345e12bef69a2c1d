"""`--exchange auto|ALIAS|ROUTE[:CODEC][,option=value]`: what it may say, and what fits what.

Checked before any process starts; what only the workers can know, the routes check.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from arignote.config.devices import ACCELERATOR, EXAMPLE, is_accelerator
from arignote.config.spec import Spec, parse_options, parse_spec
from arignote.errors import UserError, unknown
from arignote.registry import CODECS, ROUTES

AUTO = "auto"

EXCHANGE_ALIASES = {
    "ar": "allreduce:fp32",
    "asa32": "asa:fp32",
    "asa16": "asa:fp16",
    "nccl32": "nccl:fp32",
    "nccl16": "nccl:fp16",
    "copper": "hier:fp32",
    "copper16": "hier:fp16",
    "swap": "pair:fp32",
}
"""Theano-MPI's names. Its copper was a tree cut to one machine; hier is what takes its place."""


class CodecOptions(BaseModel):
    """Base of all codecs' options."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    def text(self) -> str:
        """`,key=value` for every option that is not at its default."""
        given = self.model_dump(exclude_defaults=True)
        return "".join(f",{key}={value:g}" for key, value in given.items())


class TopKOptions(CodecOptions):
    """Options of topk."""

    k: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.01
    """Elements that are sent: below 1 a fraction of the vector, else their number."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Momentum correction of DGC; give the optimizer none then. 0: off."""

    @field_validator("k")
    @classmethod
    def _whole(cls, k: float) -> float:
        if k >= 1 and not k.is_integer():
            raise ValueError("input should be a fraction below 1, or a whole number of elements")
        return k


class PowerSGDOptions(CodecOptions):
    """Options of powersgd."""

    rank: Annotated[int, Field(ge=1, le=1024)] = 4
    """Rank of the approximation of every layer's matrix."""


CODEC_OPTIONS: dict[str, type[CodecOptions]] = {
    "topk": TopKOptions,
    "powersgd": PowerSGDOptions,
}
"""Of the codecs that have options."""

_EVERY = ("fp32", "fp16", "bf16", "int8", "onebit", "topk", "powersgd")
ROUTE_CODECS: dict[str, tuple[str, ...]] = {
    "allreduce": ("fp32", "powersgd"),
    "asa": _EVERY,
    "shm": ("fp32",),
    "hier": _EVERY,
    "pair": ("fp32", "fp16", "bf16"),
    "nccl": ("fp32", "fp16", "bf16", "powersgd"),
    "ipc": ("fp32",),
}
"""Which codecs a route carries."""

_WHY_NOT = {
    "allreduce": "the MPI library adds what is on the wire, and knows no such numbers",
    "shm": "nothing goes over a wire inside a host, so there is nothing to save",
    "ipc": "nothing goes over a wire inside a host, so there is nothing to save",
    "nccl": "NCCL adds what is on the wire, and knows no such numbers",
    "pair": "weights are traded, and an error made in them stays",
}
WEIGHT_CODECS = ("fp32", "fp16", "bf16")
"""Codecs that may carry weights; the others only suit gradients, whose errors are made up for."""


@dataclass(frozen=True)
class ExchangeSpec:
    """A parsed `--exchange`; `auto` is a route without a codec."""

    route: str
    codec: str
    options: CodecOptions

    @property
    def name(self) -> str:
        """As users write it, aliases resolved."""
        return AUTO if self.route == AUTO else f"{self.route}:{self.codec}{self.options.text()}"


def parse_exchange(text: str) -> ExchangeSpec:
    """`auto`, an alias or `route[:codec][,option=value]`.

    Raises:
        UserError: the route, the codec or an option is unknown, or they do not fit.
    """
    if text == AUTO:
        return ExchangeSpec(AUTO, "fp32", CodecOptions())
    if text.startswith(f"{AUTO}:"):
        raise UserError(
            f"{AUTO} takes no codec, got {text!r}: it chooses among the ways that lose nothing; "
            f"name a route, such as asa:{text.partition(':')[2]}"
        )
    route, _, rest = EXCHANGE_ALIASES.get(text, text).partition(":")
    if route not in ROUTES:
        known = [AUTO, *EXCHANGE_ALIASES, *(entry.name for entry in ROUTES)]
        raise UserError(unknown("exchange", text, known))
    codec, _, options = (rest or "fp32").partition(",")
    CODECS.entry(codec)
    carried = ROUTE_CODECS[route]
    if codec not in carried:
        raise UserError(
            f"{route} cannot carry {codec}: {_WHY_NOT[route]}; use asa:{codec}, or {route} with "
            f"{' or '.join(carried)}"
        )
    return ExchangeSpec(route, codec, _options(codec, options))


def _options(codec: str, text: str) -> CodecOptions:
    spec = parse_spec(f"{codec}:{text}") if text else Spec(codec)
    model = CODEC_OPTIONS.get(codec, CodecOptions)
    if spec.arguments:
        keys = ", ".join(model.model_fields) or "none"
        raise UserError(
            f"codec {codec}: got {spec.arguments[0]!r}, expected key=value; keys: {keys}"
        )
    if spec.options and not model.model_fields:
        raise UserError(f"codec {codec} takes no options, got {text!r}: use {codec} alone")
    options: CodecOptions = parse_options(model, spec, f"codec {codec}")
    return options


def check_placement(spec: ExchangeSpec, *, devices: Sequence[str], hosts: int) -> None:
    """Refuse a route that cannot serve workers on these devices and so many hosts.

    Raises:
        UserError: the reason, and the nearest that works.
    """
    on_gpu = bool(devices) and all(is_accelerator(device) for device in devices)
    if spec.route == "shm" and hosts > 1:
        raise UserError(
            f"shm is memory of one host, and these are {hosts}: use hier:fp32 (shm inside each "
            "host), or asa:fp32"
        )
    if spec.route == "ipc" and hosts > 1:
        raise UserError(
            f"ipc is memory of the GPUs of one host, and these are {hosts} hosts: use nccl:fp32 or "
            "asa:fp32"
        )
    if spec.route in ("nccl", "ipc") and not on_gpu:
        nearest = "asa" if hosts > 1 else "shm"
        raise UserError(
            f"{spec.route} needs every worker on a GPU (--devices {EXAMPLE}): on CPUs use "
            f"{nearest}:fp32"
        )
    # Whether two that have no number meet on one GPU, only their host can tell.
    numbered = [device for device in devices if device != ACCELERATOR]
    shared = len(numbered) - len(set(numbered))
    if spec.route == "nccl" and shared and hosts < 2:
        raise UserError("nccl cannot serve two workers on one GPU: use ipc:fp32 or allreduce:fp32")


def check_fits_rule(spec: ExchangeSpec, rule: str, carries: str) -> None:
    """Refuse a route or codec that does not suit what the rule exchanges.

    Args:
        carries: gradients, weights or deltas (`RuleOptions.carries`).

    Raises:
        UserError: it would spoil weights, or trades what should be averaged.
    """
    if carries == "weights" and spec.codec not in WEIGHT_CODECS:
        raise UserError(
            f"{rule} exchanges weights, and {spec.codec} only suits gradients, whose errors are "
            f"made up for later: use {spec.route}:fp16, or a rule that exchanges gradients or "
            "changes of weights (bsp, diloco)"
        )
    if carries != "weights" and spec.route == "pair":
        raise UserError(
            f"pair trades vectors and {rule} needs their mean: use {spec.route} with "
            "bsp:scheme=weights, or asa:fp32"
        )
