"""`train.mix`, `name[:alpha=x]`: how training images are mixed, checked before any start."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from arignote.config.spec import parse_options, parse_spec
from arignote.errors import UserError, unknown

NONE = "none"

Alpha = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class MixupOptions(BaseModel):
    """Options of mixup."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    alpha: Alpha = 0.2
    """The share of an image is drawn from Beta(alpha, alpha): small is mostly near 0 or 1."""


class CutmixOptions(MixupOptions):
    """Options of cutmix."""

    alpha: Alpha = 1.0
    """As mixup's; 1: all shares alike."""


OPTIONS: dict[str, type[MixupOptions]] = {"mixup": MixupOptions, "cutmix": CutmixOptions}


class Mix(NamedTuple):
    """What is done, and Beta's parameter."""

    name: str
    alpha: float


def parse_mix(text: str) -> Mix | None:
    """`mixup:alpha=0.4` -> its name and alpha; `none` -> None.

    Raises:
        UserError: the name or an option is unknown or out of range.
    """
    if text == NONE:
        return None
    spec = parse_spec(text)
    if spec.name == NONE:
        raise UserError(f"mix {text}: none has no options: leave them out")
    if spec.name not in OPTIONS:
        raise UserError(unknown("mix", spec.name, (NONE, *OPTIONS)))
    if spec.arguments:
        raise UserError(
            f"mix {spec.name}: got {spec.arguments[0]!r}, expected key=value; keys: alpha"
        )
    options: MixupOptions = parse_options(OPTIONS[spec.name], spec, f"mix {spec.name}")
    return Mix(spec.name, options.alpha)
