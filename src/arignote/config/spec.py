"""Specs: the short strings `name:argument,key=value` that choose a rule, an exchange or data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError

from arignote.config.problems import one_line
from arignote.errors import UserError


@dataclass(frozen=True)
class Spec:
    """A parsed spec: `imagefolder:/d,skip_bad=true` has one argument and one option."""

    name: str
    arguments: tuple[str, ...] = ()
    options: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """As it is written."""
        parts = [*self.arguments, *(f"{key}={value}" for key, value in self.options.items())]
        return f"{self.name}{':' if parts else ''}{','.join(parts)}"


def parse_spec(text: str) -> Spec:
    """Split `name[:part[,part...]]`; a part with `=` is an option, any other an argument.

    >>> parse_spec("bsp:scheme=weights")
    Spec(name='bsp', arguments=(), options={'scheme': 'weights'})

    Raises:
        UserError: the name is empty, or an option is given twice.
    """
    name, _, rest = text.partition(":")
    if not name.strip():
        raise UserError(f"got {text!r}, expected name[:argument][,key=value...]")
    arguments: list[str] = []
    options: dict[str, str] = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            arguments.append(part)
        elif key.strip() in options:
            raise UserError(f"{text!r} gives {key.strip()!r} twice: keep one")
        else:
            options[key.strip()] = value.strip()
    return Spec(name.strip(), tuple(arguments), options)


def parse_options(model: type[BaseModel], spec: Spec, what: str) -> Any:
    """The spec's options as an instance of `model` (a value `true` or `3` is read as such).

    Raises:
        UserError: an option is unknown, out of range or of the wrong type.
    """
    try:
        return model.model_validate_strings(spec.options)
    except ValidationError as error:
        raise UserError(one_line(error, model, prefix=f"{what}: ")) from None
