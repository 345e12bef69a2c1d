"""How the programs of `bench loader` begin and end: one argument, one line about a failure."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from arignote.errors import ArignoteError
from arignote.orphan import die_with_parent


def run_program(main: Callable[[str], dict[str, Any] | None]) -> None:
    """Call `main` with the argument, and print as JSON what it returns, if anything.

    An error of ours ends the process with its line and its code.
    """
    die_with_parent()
    try:
        result = main(sys.argv[1])
    except ArignoteError as error:
        sys.stderr.write(f"arignote: error: {error}\n")
        sys.exit(error.exit_code)
    if result is not None:
        sys.stdout.write(f"{json.dumps(result)}\n")
