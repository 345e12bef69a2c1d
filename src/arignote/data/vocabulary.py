"""From text to tokens and back, by a vocabulary: characters, or the 256 bytes of UTF-8."""

from __future__ import annotations

from collections.abc import Sequence

from arignote.errors import UserError

BYTES = tuple(str(value) for value in range(256))
"""The vocabulary of a text of bytes; any other is of characters."""


def encode(text: str, vocabulary: Sequence[str]) -> list[int]:
    """The tokens of `text`.

    Raises:
        UserError: it has a character that the vocabulary does not have.
    """
    if tuple(vocabulary) == BYTES:
        return list(text.encode(errors="surrogateescape"))
    places = {character: place for place, character in enumerate(vocabulary)}
    for character in text:
        if character not in places:
            raise UserError(
                f"{character!r} is no character of the text that was trained on: leave it out"
            )
    return [places[character] for character in text]


def decode(tokens: Sequence[int], vocabulary: Sequence[str]) -> str:
    """The text of `tokens`; bytes that are no UTF-8 become U+FFFD."""
    if tuple(vocabulary) == BYTES:
        return bytes(tokens).decode(errors="replace")
    return "".join(vocabulary[token] for token in tokens)
