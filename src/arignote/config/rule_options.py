"""The options of each rule, `--rule name:key=value`: validated before any process starts."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from arignote.config.spec import parse_options, parse_spec
from arignote.errors import UserError, unknown
from arignote.registry import CODECS, ROUTES, RULES

DEFAULT_EXCHANGE = "allreduce:fp32"

EXCHANGE_ALIASES = {"auto": DEFAULT_EXCHANGE, "ar": "allreduce:fp32"}
"""`auto`, and Theano-MPI's names."""


class RuleOptions(BaseModel):
    """Base of all rules' options."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class BSPOptions(RuleOptions):
    """Options of bsp."""

    scheme: Literal["gradient", "weights"] = "gradient"
    """gradient: average gradients, then update (cdd); weights: update, then average (avg)."""


OPTIONS: dict[str, type[RuleOptions]] = {"bsp": BSPOptions}


def parse_rule(text: str) -> tuple[str, RuleOptions]:
    """`bsp:scheme=weights` -> ("bsp", BSPOptions(scheme="weights")).

    Raises:
        UserError: the rule or one of its options is unknown, or a value is not allowed.
    """
    spec = parse_spec(text)
    RULES.entry(spec.name)
    model = OPTIONS[spec.name]
    if spec.arguments:
        raise UserError(
            f"rule {spec.name}: got {spec.arguments[0]!r}, expected key=value; "
            f"keys: {', '.join(model.model_fields)}"
        )
    options: RuleOptions = parse_options(model, spec, f"rule {spec.name}")
    return spec.name, options


def parse_exchange(text: str) -> tuple[str, str]:
    """`auto`, an alias or `route[:codec]` -> (route, codec).

    Raises:
        UserError: the route or the codec is unknown.
    """
    full = EXCHANGE_ALIASES.get(text, text)
    route, _, codec = full.partition(":")
    if route not in ROUTES:
        known = [*EXCHANGE_ALIASES, *(entry.name for entry in ROUTES)]
        raise UserError(unknown("exchange", text, known))
    CODECS.entry(codec or "fp32")
    return route, codec or "fp32"
