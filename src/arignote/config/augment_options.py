"""`train.augment`, `step+step:key=value`: its steps and their options, checked before any start."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from arignote.config.spec import Spec, parse_options, parse_spec
from arignote.errors import UserError, unknown

NONE = "none"
WINDOWS = ("crop", "resized-crop")
"""Steps that say which part of the image is the sample: one of them at most, and first."""
DEVICE_STEPS = ("crop", "mirror")
"""Steps that move pixels and change none, which a device can do too."""

Strength = Annotated[float, Field(ge=0, le=1)]


class StepOptions(BaseModel):
    """Base of the steps' options, and those of a step that has none."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ResizedCropOptions(StepOptions):
    """Options of resized-crop."""

    scale: Annotated[float, Field(gt=0, le=1)] = 0.08
    """The smallest area of a part, of the image's; the largest is 1."""


class ColorJitterOptions(StepOptions):
    """Options of color-jitter. A factor is drawn from 1 - x to 1 + x."""

    brightness: Strength = 0.4
    """x of the factor of all values."""
    contrast: Strength = 0.4
    """x of the factor of the distance from the image's mean grey."""
    saturation: Strength = 0.4
    """x of the factor of the distance from each pixel's own grey; none on grey images."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Colours turn by -x to x of the whole circle; not on grey images."""


class RandAugmentOptions(StepOptions):
    """Options of randaugment."""

    n: Annotated[int, Field(ge=1, le=14)] = 2
    """Operations for each image."""
    m: Annotated[int, Field(ge=0, le=30)] = 9
    """Their strength, a bin of 31."""


OPTIONS: dict[str, type[StepOptions]] = {
    "crop": StepOptions,
    "mirror": StepOptions,
    "resized-crop": ResizedCropOptions,
    "color-jitter": ColorJitterOptions,
    "randaugment": RandAugmentOptions,
}


class Step(NamedTuple):
    """One of the steps that are joined by `+`."""

    name: str
    options: StepOptions


def parse_augment(text: str) -> tuple[Step, ...]:
    """`crop+mirror` -> its steps, in the order written; `none` -> ().

    Raises:
        UserError: a step or an option is unknown or out of range, or steps do not go together.
    """
    if text == NONE:
        return ()
    specs = [parse_spec(part) for part in text.split("+")]
    names = [spec.name for spec in specs]
    for spec in specs:
        if spec.name == NONE:
            raise UserError(f"augmentation {text}: none stands alone: leave it out, or all others")
        if spec.name not in OPTIONS:
            raise UserError(unknown("augmentation", spec.name, (NONE, *OPTIONS)))
        if names.count(spec.name) > 1:
            raise UserError(f"augmentation {text}: {spec.name} comes twice: keep one")
    if all(name in names for name in WINDOWS):
        raise UserError(
            f"augmentation {text}: {' and '.join(WINDOWS)} exclude each other: keep one"
        )
    for name in names[1:]:
        if name in WINDOWS:
            raise UserError(
                f"augmentation {text}: {name} says which part of the image is used: put it first"
            )
    return tuple(Step(spec.name, _options(spec)) for spec in specs)


def check_device_steps(names: Iterable[str]) -> None:
    """Check that the steps called `names` are such that a device can do them.

    Raises:
        UserError: one is not.
    """
    for name in names:
        if name not in DEVICE_STEPS:
            raise UserError(
                f"loading.augment='device' knows {' and '.join(DEVICE_STEPS)}, got {name}: leave "
                "loading.augment at 'loader', or that step out of train.augment"
            )


def check_device_augment(normalise: str, augment: str, mix: str) -> None:
    """Check what `loading.augment="device"` does not go with.

    Raises:
        UserError: `loading.normalise`, `train.augment` or `train.mix`.
    """
    if normalise != "device":
        raise UserError(
            "loading.augment='device' hands over images as bytes, got loading.normalise="
            f"{normalise!r}: set it to 'device' too"
        )
    if mix != NONE:
        raise UserError(
            f"loading.augment='device' does not mix images, got train.mix={mix!r}: leave "
            "loading.augment at 'loader', or set train.mix to 'none'"
        )
    check_device_steps(step.name for step in parse_augment(augment))


def _options(spec: Spec) -> StepOptions:
    model = OPTIONS[spec.name]
    if (spec.arguments or spec.options) and not model.model_fields:
        raise UserError(f"augmentation {spec}: {spec.name} has no options: write it alone")
    if spec.arguments:
        keys = ", ".join(model.model_fields)
        raise UserError(
            f"augmentation {spec.name}: got {spec.arguments[0]!r}, expected key=value; keys: {keys}"
        )
    options: StepOptions = parse_options(model, spec, f"augmentation {spec.name}")
    return options
