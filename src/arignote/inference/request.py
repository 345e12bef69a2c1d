"""What the command line asks of `python -m arignote.inference`; torch stays out of here."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

RESULT_PREFIX = "RESULT "
LAST, BEST = "last", "best"
EXPORT_FORMATS = (".safetensors", ".pt2", ".onnx")


@dataclass(frozen=True)
class Request:
    """One verb on one run."""

    verb: str
    run: str
    checkpoint: str = LAST
    """`last`, `best`, or a checkpoint's own name."""
    options: dict[str, Any] = field(default_factory=dict)
    """The verb's own, plain values."""

    def text(self) -> str:
        """As it is written to the child's stdin: an argument could not hold so many files."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Request:
        """The inverse of `text`."""
        return cls(**json.loads(text))
