"""What the specs of data sets have in common: how many arguments, which folder, no options."""

from __future__ import annotations

from pathlib import Path

from arignote.config.spec import Spec
from arignote.errors import DataError, UserError


def expect_arguments(spec: Spec, count: int, form: str) -> tuple[str, ...]:
    """The spec's arguments, after a check that there are `count`; `form` shows how it is written.

    Raises:
        UserError: there are fewer or more.
    """
    if len(spec.arguments) != count:
        got = f"{', '.join(map(repr, spec.arguments))}" if spec.arguments else "none"
        raise UserError(
            f"data set {spec.name} takes {count} argument{'' if count == 1 else 's'}, "
            f"got {got}: write {form}"
        )
    return spec.arguments


def expect_folder(spec: Spec, form: str) -> Path:
    """The existing folder that is the spec's only argument.

    Raises:
        UserError: the spec does not have exactly one argument.
        DataError: there is no such folder.
    """
    (argument,) = expect_arguments(spec, 1, form)
    folder = Path(argument)
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise DataError(f"{folder} {what}: write {form} with the folder of the data set")
    return folder


def expect_no_options(spec: Spec) -> None:
    """Check that the spec has no options, for data sets that know none.

    Raises:
        UserError: it has one.
    """
    if spec.options:
        raise UserError(f"data set {spec.name} takes no options, got {next(iter(spec.options))!r}")
