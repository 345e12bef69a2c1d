"""MPI_Allreduce between hosts with our settings for Ethernet, beside MPI's defaults, by turns.

    python benchmarks/ethernet_tuning.py --hosts A:1,B:1 [--rounds R] [--set SECTION.KEY=VALUE ...]

Each round runs `arignote bench exchange` once with `launch.ethernet_tuning` and once without, since
an MPI reads its parameters when it starts. Of every run the median and the upper quartile count:
with the defaults it is chance whether the two directions of a trade go at the same time.
On hosts emulated by `scripts/netlab`, which share this machine's cores, it wants
`--set launch.bind=false --set launch.threads=1`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from statistics import median

import click

ELEMENTS = (1_000_000, 4_000_000, 10_000_000)
KINDS = {"defaults": "false", "ours": "true"}


def bench(tuning: str, hosts: str, seconds: float, settings: tuple[str, ...]) -> list[dict]:
    """The rows of one run."""
    argv = [sys.executable, "-m", "arignote", "bench", "exchange", "--json", "--vs", "mpi"]
    argv += ["--hosts", hosts, "--exchanges", "asa:fp32", "--seconds", str(seconds)]
    argv += ["--elements", ",".join(map(str, ELEMENTS))]
    for setting in (*settings, f"launch.ethernet_tuning={tuning}"):
        argv += ["--set", setting]
    done = subprocess.run(argv, check=False, stdout=subprocess.PIPE, text=True, timeout=600)
    if done.returncode:
        # It has said why.
        sys.exit(done.returncode)
    return json.loads(done.stdout)["rows"]


@click.command(help=__doc__.partition("\n")[0] if __doc__ else None)
@click.option("--hosts", required=True, help="As in arignote train --hosts.")
@click.option("--rounds", type=click.IntRange(1), default=6, show_default=True)
@click.option("--seconds", type=float, default=4.0, show_default=True, help="Of each size.")
@click.option("--set", "settings", multiple=True, metavar="SECTION.KEY=VALUE")
def main(hosts: str, rounds: int, seconds: float, settings: tuple[str, ...]) -> None:
    times: dict[tuple[str, int, str], list[tuple[float, float]]] = defaultdict(list)
    for number in range(rounds):
        for kind in sorted(KINDS, reverse=bool(number % 2)):
            for row in bench(KINDS[kind], hosts, seconds, settings):
                pair = (row["median_seconds"] * 1e3, row["spread"][1] * 1e3)
                times[row["name"], row["elements"], kind].append(pair)
    click.echo(f"{'row':<10}{'MB':>5}  {'defaults':>20}  {'ours':>20}  defaults / ours")
    click.echo(f"{'':<15}{'  median, upper quarter' * 2}  median, upper quarter")
    for name in ("mpi", "asa:fp32", "line"):
        for elements in ELEMENTS:
            middle = {
                kind: [median(column) for column in zip(*times[name, elements, kind], strict=True)]
                for kind in KINDS
            }
            cells = "".join(f"{a:>12.1f} {b:>6.1f} ms" for a, b in middle.values())
            ratio = [a / b for a, b in zip(middle["defaults"], middle["ours"], strict=True)]
            megabytes = 4 * elements / 1e6
            click.echo(f"{name:<10}{megabytes:>5.0f}{cells}  {ratio[0]:>8.2f} {ratio[1]:>8.2f}")
    click.echo(f"medians of {rounds} runs of each kind, in turns; hosts: {hosts}")


if __name__ == "__main__":
    main(prog_name="python benchmarks/ethernet_tuning.py")
