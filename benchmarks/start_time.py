"""Seconds from a command to the first step of a script, beside torchrun, by turns.

    python benchmarks/start_time.py [--workers N] [--rounds R]

The script is one: under torchrun it has DistributedDataParallel over gloo, under `arignote run`
`arignote.attach`. The clock stops when worker 0 has its first step's loss; `ended` is when the
command has returned. Each round makes one start of each, of which the first does not count.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import click

SCRIPT = """\
import os, sys, time
import torch
from torch import nn

model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
inputs, targets = torch.randn(64, 64), torch.randint(10, (64,))
if "TORCHELASTIC_RUN_ID" in os.environ:
    import torch.distributed as dist

    dist.init_process_group("gloo")
    model, rank = nn.parallel.DistributedDataParallel(model), dist.get_rank()
    step = optimizer.step
else:
    import arignote

    replica = arignote.attach(model, optimizer)
    step, rank = replica.step, replica.rank
loss = nn.functional.cross_entropy(model(inputs), targets)
loss.backward()
step()
if rank == 0:
    loss.item()
    open(sys.argv[1], "w").write(repr(time.time()))
if "TORCHELASTIC_RUN_ID" in os.environ:
    del model
    dist.destroy_process_group()
"""
COMMANDS = {
    "arignote": ["arignote", "run", "-n", "{n}"],
    "torchrun": ["torch.distributed.run", "--standalone", "--nproc-per-node", "{n}"],
}


def start(name: str, workers: int, folder: Path) -> tuple[float, float]:
    """(seconds until the first step, seconds until the command returned)."""
    script, mark = folder / "script.py", folder / "first_step"
    script.write_text(SCRIPT)
    module, *arguments = (part.format(n=workers) for part in COMMANDS[name])
    begun = time.time()
    subprocess.run(
        [sys.executable, "-m", module, *arguments, str(script), str(mark)],
        cwd=folder,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=300,
    )
    return float(mark.read_text()) - begun, time.time() - begun


@click.command(help=__doc__.partition("\n")[0] if __doc__ else None)
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=9, show_default=True)
def main(workers: int, rounds: int) -> None:
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for number in range(rounds + 1):
        for name in sorted(COMMANDS, reverse=bool(number % 2)):
            with tempfile.TemporaryDirectory() as folder:
                seconds = start(name, workers, Path(folder))
            if number:
                times[name].append(seconds)
    for name, pairs in times.items():
        first, ended = (median(column) for column in zip(*pairs, strict=True))
        click.echo(f"{name:<10}first step after {first:.2f} s, ended after {ended:.2f} s")
    for what, column in (("first step", 0), ("ended", 1)):
        both = zip(times["arignote"], times["torchrun"], strict=True)
        ratios = [ours[column] / theirs[column] for ours, theirs in both]
        click.echo(
            f"arignote / torchrun, {what}: {median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f}, {rounds} rounds)"
        )


if __name__ == "__main__":
    main(prog_name="python benchmarks/start_time.py")
