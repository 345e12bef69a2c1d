"""From a model's defaults, a file and the command line to validated settings, and to a file."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from arignote.config.problems import one_line
from arignote.config.session_cfg import read_session_cfg
from arignote.config.settings import Settings
from arignote.errors import UserError, unknown

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Layer = dict[str, Any]
"""Nested settings of one origin: section -> key -> value."""


def resolve(layers: Iterable[tuple[str, Layer]]) -> Settings:
    """Merge layers, lowest precedence first, and validate after each, so that the message
    can say which of them (the model, the file, the command line) holds the mistake.

    Cross-checks between keys are made on the whole, after the last.

    Raises:
        UserError: an unknown section or key, a wrong type, a value out of range.
    """
    merged: Layer = {}
    for origin, layer in layers:
        _check_names(layer, origin)
        merged = _merge(merged, layer)
        problem = _problem(merged)
        if problem is not None and _is_about(problem, layer):
            raise UserError(one_line(problem, Settings, prefix=origin and f"{origin}: "))
    problem = _problem(merged)
    if problem is not None:
        raise UserError(one_line(problem, Settings))
    return Settings.model_validate(merged)


def _problem(merged: Layer) -> ValidationError | None:
    try:
        Settings.model_validate(merged)
    except ValidationError as error:
        return error
    return None


def _is_about(problem: ValidationError, layer: Layer) -> bool:
    """Whether the first finding is a key that `layer` sets (not a clash between keys)."""
    place = problem.errors()[0]["loc"]
    return len(place) >= 2 and place[1] in layer.get(str(place[0]), {})


def _check_names(layer: Layer, origin: str) -> None:
    prefix = f"{origin}: " if origin else ""
    for section, keys in layer.items():
        if section not in Settings.model_fields:
            raise UserError(prefix + unknown("section", section, Settings.model_fields))
        if not isinstance(keys, dict):
            raise UserError(f"{prefix}[{section}] is a section: write {section}.KEY = VALUE")
        known = type(getattr(Settings(), section)).model_fields
        for key in keys:
            if key not in known:
                meant = _elsewhere(key)
                raise UserError(prefix + unknown(f"key in [{section}]", key, known, meant))


def _elsewhere(key: str) -> str:
    """The one `section.key` that has this name, or these initials (`lr`); else empty."""
    found = [
        f"{section}.{name}"
        for section in Settings.model_fields
        for name in type(getattr(Settings(), section)).model_fields
        if key in (name, "".join(word[0] for word in name.split("_")))
    ]
    return found[0] if len(found) == 1 else ""


def _merge(low: Layer, high: Layer) -> Layer:
    merged = {section: dict(keys) for section, keys in low.items()}
    for section, keys in high.items():
        merged.setdefault(section, {}).update(keys)
    return merged


def nest(dotted: Mapping[str, Any], origin: str) -> Layer:
    """{"train.epochs": 5} -> {"train": {"epochs": 5}}.

    Raises:
        UserError: a key is not of the form section.key.
    """
    layer: Layer = {}
    for name, value in dotted.items():
        section, dot, key = name.partition(".")
        if not dot or not key:
            raise UserError(f"{origin}: got {name!r}, expected section.key, such as train.epochs")
        layer.setdefault(section, {})[key] = value
    return layer


def parse_set(assignments: Iterable[str]) -> Layer:
    """`section.key=value` strings; a value is read as TOML (3, 0.1, true, [1, 2]), else as text.

    Raises:
        UserError: one has no `=` or no section.
    """
    dotted: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise UserError(f"--set: got {assignment!r}, expected section.key=value")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        dotted[name.strip()] = value
    return nest(dotted, "--set")


def read_file(path: Path) -> Layer:
    """A TOML file, or Theano-MPI's `session.cfg` (any file that ends in .cfg).

    Raises:
        UserError: it is missing, cannot be read or is not what it should be.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"no config file {str(path)!r}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"config file {str(path)!r} cannot be read: {error}") from None
    if path.suffix == ".cfg":
        return read_session_cfg(text, str(path))
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"config file {str(path)!r} is not TOML: {error}") from None


def to_toml(settings: Settings) -> str:
    """The resolved whole as TOML; `read_file` reads it back to equal settings."""
    return tomli_w.dumps(settings.model_dump(exclude_none=True))
