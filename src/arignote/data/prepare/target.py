"""The folder that is to be prepared: what may be there, what is removed, and whether all fits.

The bad story that it prevents: somebody names a folder of their own, which happens to hold an
`index.json`, and what else has a name like ours is gone.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from pydantic import ValidationError

from arignote.data.prepare.output import Progress, writing
from arignote.data.shard_index import FORMAT, INDEX, PROGRESS
from arignote.errors import DataError

_WHOLE = r"index\.json|progress\.json|(train|validation)-(labels\.npy|[0-9]{5,}\.bin)"
_OURS = re.compile(rf"{_WHOLE}|\.({_WHOLE})\.part")
"""Names that `prepare` gives."""


def check_target(folder: Path, *, force: bool) -> None:
    """Check that only what `prepare` wrote is there, or an index or a list that it wrote.

    Names alone may have to do: a preparation may be killed before there is a list, and when `clear`
    has removed it.

    Raises:
        DataError: it is a file, cannot be listed, or holds what `prepare` did not write, or what it
            may have written and nobody wants to lose.
    """
    if folder.is_file():
        raise DataError(f"{folder} is a file: name a folder")
    if not folder.is_dir():
        return
    marks = {INDEX: _is_index(folder), PROGRESS: _is_list(folder)}
    others = [name for name, ours in marks.items() if ours is False]
    if True in marks.values() and not others:
        return
    with writing(folder):
        names = sorted(path.name for path in folder.iterdir())
    others += [name for name in names if not _OURS.fullmatch(name)]
    if not others and set(names) <= set(marks):
        # Damaged, and nothing beside them that would tell whose they are.
        others = names
    if others:
        raise DataError(f"{folder} holds other files ({others[0]}): name a new or empty folder")
    whole = [name for name in names if not name.endswith(".part")]
    if whole and not (force or set(names) & set(marks)):
        raise DataError(
            f"{folder} holds {whole[0]}, and neither {INDEX} nor {PROGRESS}: begin anew with "
            "--force, or name a new or empty folder"
        )


def _is_index(folder: Path) -> bool | None:
    """Whether the index there is of shards; None: there is none, or it is damaged."""
    try:
        found = json.loads((folder / INDEX).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return isinstance(found, dict) and found.get("format") == FORMAT


def _is_list(folder: Path) -> bool | None:
    """Whether the list there is of what is prepared; None as for `_is_index`."""
    try:
        Progress.model_validate(json.loads((folder / PROGRESS).read_bytes()))
    except ValidationError:
        return False
    except (OSError, ValueError, RecursionError):
        return None
    return True


def clear(folder: Path) -> None:
    """Remove all that `prepare` wrote.

    Raises:
        DataError: it cannot be removed.
    """
    with writing(folder):
        ours = [path for path in folder.iterdir() if _OURS.fullmatch(path.name)]
        # The index first: where there is one, all is whole. Then the list, for the same reason.
        for path in sorted(ours, key=lambda path: (path.name != INDEX, path.name != PROGRESS)):
            path.unlink()


def check_room(folder: Path, needed_bytes: int) -> None:
    """Check that there is room for so much more.

    Raises:
        DataError: there is not.
    """
    free = shutil.disk_usage(folder).free
    if needed_bytes > free:
        raise DataError(
            f"{folder} needs {needed_bytes / 1e6:,.1f} MB, and {free / 1e6:,.1f} MB are free: make "
            "room, choose a smaller --size or another folder"
        )
