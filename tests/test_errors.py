"""Errors: their exit codes, and the message for a name that nobody knows."""

from __future__ import annotations

import pytest

from arignote import errors


@pytest.mark.parametrize(
    ("name", "base", "code"),
    [
        ("ArignoteError", Exception, 2),
        ("UserError", errors.ArignoteError, 2),
        ("DataError", errors.UserError, 2),
        ("NotANumberError", errors.ArignoteError, 2),
        ("CheckpointError", errors.ArignoteError, 2),
        ("LostWorkerError", errors.ArignoteError, 1),
    ],
)
def test_exit_codes(name, base, code):
    error = getattr(errors, name)
    assert issubclass(error, base)
    assert error("x").exit_code == code


def test_the_docstring_shows_them_all():
    names = [name for name in vars(errors) if name.endswith("Error")]
    assert len(names) == 8
    assert all(name in errors.__doc__ for name in names)


@pytest.mark.parametrize(
    ("got", "message"),
    [
        ("bps", "unknown rule 'bps': did you mean 'bsp'? known: asgd, bsp, easgd"),
        ("easdg", "unknown rule 'easdg': did you mean 'easgd'? known: asgd, bsp, easgd"),
        ("x", "unknown rule 'x': known: asgd, bsp, easgd"),
        ("", "unknown rule '': known: asgd, bsp, easgd"),
        ("a\nb", "unknown rule 'a\\nb': known: asgd, bsp, easgd"),
    ],
)
def test_unknown(got, message):
    assert errors.unknown("rule", got, ["easgd", "bsp", "asgd"]) == message
