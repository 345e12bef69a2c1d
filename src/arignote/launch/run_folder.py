"""A run's folder, as the launcher makes it: config.toml in it, and what an earlier part left."""

from __future__ import annotations

from pathlib import Path

from arignote.config.load import to_toml
from arignote.config.settings import Settings
from arignote.errors import UserError
from arignote.recorder.events import EVENTS_FILE, read_events
from arignote.recorder.summary import SUMMARY_FILE

CONFIG_FILE = "config.toml"


def make_run_folder(
    run_folder: Path, settings: Settings, *, resume: bool, again: bool = False
) -> None:
    """Create the folder and write the resolved settings into it; `again`: see `train`.

    Raises:
        UserError: it cannot be written, or holds another run already.
    """
    try:
        if not resume:
            if not again:
                refuse_begun(run_folder)
            # Left by a run that failed before its first step, or before it saved one.
            (run_folder / EVENTS_FILE).unlink(missing_ok=True)
        # What an earlier part of the run came to is no longer its end.
        (run_folder / SUMMARY_FILE).unlink(missing_ok=True)
        run_folder.mkdir(parents=True, exist_ok=True)
        # Renamed into place: a full disk must not cost the run the config that it has.
        temporary = run_folder / f".{CONFIG_FILE}"
        temporary.write_text(to_toml(settings), encoding="utf-8")
        temporary.replace(run_folder / CONFIG_FILE)
    except UnicodeError:
        raise UserError("a setting holds text that is not valid UTF-8: rename that path") from None
    except OSError as error:
        raise UserError(f"run folder {run_folder} cannot be written: {error.strerror}") from None


def has_checkpoint(run_folder: Path) -> bool:
    """Whether a run has saved anything in this folder."""
    return any((run_folder / "checkpoints").glob("step-*"))


def refuse_begun(run_folder: Path) -> None:
    """Raise a UserError if a run has begun in this folder."""
    if any(event["event"] == "begin" for event in read_events(run_folder)):
        raise UserError(
            f"{run_folder} holds a run already: choose another --out, or go on with "
            f"--resume {run_folder}"
        )
