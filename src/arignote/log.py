"""Arignote's logger: silent as a library, set up only by our own entry points."""

from __future__ import annotations

import logging
import sys

logger = logging.getLogger("arignote")
logger.addHandler(logging.NullHandler())


def set_up(rank: int, *, verbose: bool = False) -> None:
    """Send this process's messages to stderr; only rank 0 speaks below WARNING unless `verbose`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"arignote: worker {rank}: %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO if verbose else logging.WARNING)
    logger.propagate = False
