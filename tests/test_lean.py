"""The workers of tests start without torch's compiler, and have it when they want it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

PROGRAM = """
import sys, torch
weight = torch.ones(3, requires_grad=True)
for name in ("SGD", "Adam", "Adagrad"):
    optimizer = getattr(torch.optim, name)([weight], lr=0.1)
    optimizer.zero_grad()
    weight.sum().backward()
    optimizer.step()
before = "torch._dynamo.eval_frame" in sys.modules
compiled = torch.compile(lambda x: x + 1, backend="eager")
print(before, compiled(weight).equal(weight + 1), "_dynamo" in torch._dynamo.__file__)
"""


def test_the_compiler_comes_when_it_is_wanted(cli: Any) -> None:
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(
        command, env=cli.environment, cwd=cli.folder, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("False True True\n", "")
