"""A loop that a user already has, as one worker and as several."""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import arignote
from arignote.rules.letters import own_stream

ROOT = Path(__file__).parents[2]
PROGRAM = str(ROOT / "tests/programs/attached.py")


def outcome(text: str) -> tuple[int, float, str]:
    match = re.search(r"workers \d+ steps (\d+) sum (\S+) (\w+)", text)
    assert match, text
    return int(match.group(1)), float(match.group(2)), match.group(3)


# The second MPI differs in how messages travel, which three workers show as well as two.
@pytest.mark.parametrize(
    ("mpi_cli", "several"), [("openmpi", "23"), ("mpich", "3")], indirect=["mpi_cli"]
)
def test_n_workers_equal_one(mpi_cli: Any, several: str) -> None:
    steps, total, _ = outcome(mpi_cli("run", "-n", "1", PROGRAM).out)
    assert steps == 27
    for workers in several:
        found = outcome(mpi_cli("run", "-n", workers, PROGRAM).out)
        assert found[0] == 27
        assert found[1] == pytest.approx(total, rel=1e-11)


def test_uncaught_error(cli: Any) -> None:
    ended = cli("run", "-n", "2", PROGRAM, "raises", code=1)
    assert ended.err.startswith("arignote: worker 1 on ")
    assert ended.err.count("Traceback") == 1
    assert "RuntimeError: a fault of the user's own" in ended.err


def test_early_end(cli: Any) -> None:
    ended = cli("run", "-n", "2", PROGRAM, "leaves", code=2)
    (line,) = ended.err.strip().splitlines()
    assert "1 of 2 workers ended their loop while others are at step 12" in line


def test_not_a_number(cli: Any) -> None:
    ended = cli("run", "-n", "2", PROGRAM, "nan", code=2)
    (line,) = ended.err.strip().splitlines()
    assert "the loss of worker 1 is not a number at step 10" in line


def test_alone_without_any_launcher() -> None:
    torch.manual_seed(0)
    model, twin = nn.Linear(3, 1), nn.Linear(3, 1)
    twin.load_state_dict(model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    plain = torch.optim.AdamW(twin.parameters(), lr=0.1)
    replica = arignote.attach(model, optimizer)
    assert (replica.rank, replica.size, replica.local_rank) == (0, 1, 0)
    for _ in range(5):
        inputs = torch.randn(4, 3)
        for module, opt, step in ((model, optimizer, replica.step), (twin, plain, plain.step)):
            opt.zero_grad()
            module(inputs).square().mean().backward()
            step()
    assert torch.equal(model.weight, twin.weight)
    assert replica.mean(3.0) == 3.0
    assert replica.recorder.steps == 5
    replica.close()
    replica.close()


@pytest.mark.parametrize("seed", [0, 7])
def test_what_the_rule_draws_comes_from_the_seed(seed: int) -> None:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    replica = arignote.attach(model, optimizer, rule="gosgd", seed=seed)
    assert replica._rule._random.random() == own_stream(seed, 0).random()


def test_batches() -> None:
    model = nn.Linear(2, 1)
    replica = arignote.attach(model, torch.optim.SGD(model.parameters(), lr=0.1))
    batches = replica.batches(10, 4, seed=3)
    assert len(batches) == 3
    first, second = list(batches), list(batches)
    assert sorted(chain(*first)) == sorted(chain(*second)) == list(range(10))
    assert first != second
    with pytest.raises(arignote.UserError, match="got batch_size 0, expected at least 1"):
        replica.batches(10, 0)
    with pytest.raises(arignote.UserError, match="1 workers but only 0 samples"):
        replica.batches(0, 1)


def test_unknown_names() -> None:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(arignote.UserError, match="unknown rule 'bps': did you mean 'bsp'"):
        arignote.attach(model, optimizer, rule="bps")
    with pytest.raises(arignote.UserError, match="unknown exchange 'alreduce'"):
        arignote.attach(model, optimizer, exchange="alreduce")


def test_worker_that_leaves_before_it_attaches(mpi_cli: Any) -> None:
    (mpi_cli.folder / "early.py").write_text(
        "import os, sys\n"
        "if '0' not in (os.environ.get('OMPI_COMM_WORLD_RANK'), os.environ.get('PMI_RANK')):\n"
        "    sys.exit(0)\n"
        "import arignote\n"
        "from torch import nn, optim\n"
        "model = nn.Linear(2, 1)\n"
        "arignote.attach(model, optim.SGD(model.parameters(), lr=0.1))\n"
    )
    limit = ("--set", "launch.start_timeout_seconds=4.0")
    ended = mpi_cli("run", "-n", "2", *limit, "early.py", code=1, timeout=40)
    assert "not all 2 workers joined within 4 s of the first" in ended.err
