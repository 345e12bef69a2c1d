"""What the pages of all studies have in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def table_lines(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def machine_line(record: dict[str, Any]) -> str:
    """What a run ran on."""
    m = record["machine"]
    return (
        f"{m['cores']} cores of {m['cpu']}, {m['memory_gib']} GiB, Python {m['python']}, "
        f"PyTorch {m['torch']}, {record['library']}"
    )


def failures(failed: Sequence[dict[str, Any]]) -> str:
    """The runs that failed, each with its command and the last line of its error."""
    if not failed:
        return ""
    rows = [
        [f"`{r['command']}`".replace("|", "\\|"), r["error"].splitlines()[-1].replace("|", "\\|")]
        for r in failed
    ]
    return "\n".join(["## Runs that failed", "", *table_lines(("run", "error"), rows), ""])
