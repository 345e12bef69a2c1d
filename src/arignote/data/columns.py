"""Which columns of a table hold images, texts and labels."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
from pyarrow import types

from arignote.errors import DataError, UserError, unknown


class Columns:
    """The columns of a table, as its first file describes them."""

    def __init__(self, schema: pa.Schema, where: str) -> None:
        """`where` the schema stands, for messages."""
        self._schema = schema
        self._where = where
        self._features = _features(schema)

    def images(self, asked: str) -> str:
        """The column of images: the one `asked` for, or the only one; empty: there is none.

        Raises:
            UserError: `asked` holds none, or there are several and none is called image.
        """
        return self._choose("image", "images", asked, is_image)

    def texts(self, asked: str) -> str:
        """The column of texts, as `images`.

        Raises:
            UserError: as `images`.
        """
        return self._choose("text", "texts", asked, is_text)

    def labels(self, asked: str) -> str:
        """The column of labels, as `images`; those that name their classes come before others.

        Raises:
            UserError: as `images`.
            DataError: there is none.
        """
        named = [] if asked else [name for name in self._names(is_label) if self.classes(name)]
        if len(named) == 1:
            return named[0]
        found = self._choose("label", "labels", asked, is_label)
        if not found:
            raise DataError(f"{self._where} has no column of labels (whole numbers): {self}")
        return found

    def classes(self, column: str) -> tuple[str, ...]:
        """The names of the classes whose numbers `column` holds; empty: they have none."""
        feature = self._features.get(column)
        names = feature.get("names") if isinstance(feature, dict) else None
        return tuple(map(str, names)) if isinstance(names, list) else ()

    def check(self, schema: pa.Schema, where: str, columns: Sequence[str]) -> None:
        """Check that another file has these `columns`, of the same kinds.

        Raises:
            DataError: it does not.
        """
        for name in columns:
            expected = self._schema.field(name).type
            if name not in schema.names:
                raise DataError(
                    f"{where} has no column {name}, which {self._where} has: all files must be of "
                    "one kind"
                )
            found = schema.field(name).type
            if any(fits(found) != fits(expected) for fits in (is_image, is_text, is_label)):
                raise DataError(
                    f"{where} holds {_short(found)} as column {name}, {self._where} "
                    f"{_short(expected)}: all files must be of one kind"
                )

    def __str__(self) -> str:
        return "its columns are " + ", ".join(f"{f.name} ({_short(f.type)})" for f in self._schema)

    def _names(self, fits: Callable[[pa.DataType], bool]) -> list[str]:
        return [field.name for field in self._schema if fits(field.type)]

    def _choose(
        self, option: str, what: str, asked: str, fits: Callable[[pa.DataType], bool]
    ) -> str:
        found = self._names(fits)
        if asked:
            if asked not in self._schema.names:
                raise UserError(f"{self._where}: {unknown('column', asked, self._schema.names)}")
            if asked not in found:
                kind = _short(self._schema.field(asked).type)
                raise UserError(f"{self._where}: {option}={asked} holds {kind}, no {what}: {self}")
            return asked
        if len(found) > 1 and option not in found:
            raise UserError(
                f"{self._where}: {', '.join(found)} may all be {what}: choose one with "
                f"{option}=COLUMN"
            )
        return option if option in found else "".join(found)


def is_image(kind: pa.DataType) -> bool:
    """Whether values are bytes, or structures that have bytes."""
    if types.is_struct(kind):
        place = kind.get_field_index("bytes")
        return place >= 0 and _is_bytes(kind.field(place).type)
    return _is_bytes(kind)


def is_text(kind: pa.DataType) -> bool:
    """Whether values are strings."""
    return bool(types.is_string(kind) or types.is_large_string(kind))


def is_label(kind: pa.DataType) -> bool:
    """Whether values are whole numbers."""
    return bool(types.is_integer(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _short(kind: pa.DataType) -> str:
    return "structures" if types.is_struct(kind) else str(kind)


def _features(schema: pa.Schema) -> dict[str, Any]:
    """What Hugging Face's datasets say of each column; empty where others wrote the file."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    except (TypeError, KeyError, ValueError):
        return {}
    return features if isinstance(features, dict) else {}
