"""Pydantic's findings as one line: what we got, what is allowed, the nearest known name."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from arignote.errors import unknown


def one_line(error: ValidationError, model: type[BaseModel], prefix: str = "") -> str:
    """The first finding of `error` in one line."""
    finding = error.errors(include_url=False)[0]
    path = [str(part) for part in finding["loc"]]
    if finding["type"] == "extra_forbidden":
        owner = model
        for part in path[:-1]:
            owner = _section(owner, part)
        kind = "key" if path[:-1] or not _has_sections(owner) else "section"
        where = f" in [{'.'.join(path[:-1])}]" if path[:-1] else ""
        return f"{prefix}{unknown(kind + where, path[-1], owner.model_fields)}"
    reason = finding["msg"].removeprefix("Value error, ")
    reason = reason[0].lower() + reason[1:]
    got: Any = finding.get("input")
    where = ".".join(part for part in path if not part.isdigit())
    # A finding about a whole section already says what clashes; its dump would not help.
    shown = "" if isinstance(got, (dict, BaseModel)) else f"got {got!r}, "
    return f"{prefix}{where + ': ' if where else ''}{shown}{reason}"


def _section(model: type[BaseModel], name: str) -> type[BaseModel]:
    """The model behind field `name`."""
    annotation = model.model_fields[name].annotation
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return model


def _has_sections(model: type[BaseModel]) -> bool:
    return any(_section(model, name) is not model for name in model.model_fields)
