"""The options of each rule, `--rule name:key=value`: validated before any process starts."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, model_validator

from arignote.config.spec import parse_options, parse_spec
from arignote.errors import UserError
from arignote.registry import RULES


class RuleOptions(BaseModel):
    """Base of all rules' options."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class BSPOptions(RuleOptions):
    """Options of bsp."""

    scheme: Literal["gradient", "weights"] = "gradient"
    """gradient: average gradients, then update (cdd); weights: update, then average (avg)."""
    sharded: Literal["auto", "on", "off"] = "auto"
    """Each worker updates its share of the weights; auto: on one host, where it can be."""
    overlap: Literal["auto", "on", "off"] = "auto"
    """Exchange while backward still runs; auto: between hosts, where it can be."""

    @model_validator(mode="after")
    def _one_of_them(self) -> BSPOptions:
        if self.sharded == "on" and self.overlap == "on":
            raise ValueError(
                "sharded=on and overlap=on exclude each other: weights can only be gathered once "
                "they are updated; choose one"
            )
        for name in ("sharded", "overlap"):
            if self.scheme == "weights" and getattr(self, name) == "on":
                raise ValueError(f"{name}=on goes with scheme=gradient only: leave it out")
        return self


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
