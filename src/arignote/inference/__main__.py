"""`python -m arignote.inference`: a request on stdin, its result as one line on stdout.

A mistake is a result too: `{"error": ...}`, which the command line tells.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

from arignote.errors import ArignoteError
from arignote.inference.request import RESULT_PREFIX, Request
from arignote.orphan import die_with_parent


def answer(request: Request) -> dict[str, Any]:
    """The result of a verb: of the function that its file is named after.

    Only that file is imported, because training's half of Arignote takes a while.
    """
    module = importlib.import_module(f"arignote.inference.{request.verb}")
    try:
        result: dict[str, Any] = getattr(module, request.verb)(request)
    except ArignoteError as error:
        return {"error": str(error)}
    return result


if __name__ == "__main__":
    die_with_parent()
    try:
        result = answer(Request.parse(sys.stdin.read()))
    except KeyboardInterrupt:
        # The command line says it all.
        sys.exit(130)
    # On a line of its own, whatever the model's code has printed.
    sys.stdout.write("\n" + RESULT_PREFIX + json.dumps(result) + "\n")
