"""`arignote doctor`: what was found here, or on all hosts of a job, and one line of advice for each
thing wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from arignote.cli.options import settings_options

if TYPE_CHECKING:
    from arignote.launch.hostcheck.report import HostFacts, HostLink, HostsDiagnosis

_SHOWN_LINKS = 28
_SEEN_EVERYWHERE = "mpi4py", "torch", "numpy", "numba"


@click.command(short_help="What this machine, or each host, has and lacks.")
@settings_options
@click.option(
    "--timeout",
    type=click.FloatRange(1, 3600),
    default=60.0,
    show_default=True,
    help="Seconds that a host may take to answer.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, 3600),
    default=60.0,
    show_default=True,
    help="After that no further link between hosts is measured.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def doctor(timeout: float, seconds: float, as_json: bool, **given: Any) -> int:
    """Report MPI, hosts, cores, memory and devices, with advice for what is wrong.

    With --hosts or --hostfile, or in an allocation (Slurm, LSF, PBS) of several nodes: of every
    host, with the differences between them and the speed of the links. The exit code is 1 if
    anything is wrong.
    """
    from arignote.launch.allocation import find_allocation

    allocation = find_allocation()
    if any(given.values()) or (allocation is not None and len(allocation.hosts) > 1):
        return _all_hosts(given, timeout, seconds, as_json=as_json)
    import json

    from arignote.launch.doctor import examine

    report = examine()
    if as_json:
        click.echo(json.dumps(report.model_dump(), indent=1))
    else:
        _echo(f"{name:<20} {value}" for name, value in report.facts.items())
        _echo(_advice(report.advice))
    return 1 if report.advice else 0


def _all_hosts(given: dict[str, Any], timeout: float, seconds: float, *, as_json: bool) -> int:
    from arignote.config.load import parse_set, read_file, resolve
    from arignote.launch.hostcheck.examine import examine_hosts
    from arignote.launch.placement import launch_layer

    config = given["config"]
    where = {name: given[name] for name in ("workers", "servers", "hosts", "hostfile")}
    layers = [] if config is None else [(config, read_file(Path(config)))]
    layers += [("--set", parse_set(given["assignments"]))]
    layers += [("", {"launch": launch_layer(devices=None, **where)})]
    report = examine_hosts(resolve(layers).launch, timeout_seconds=timeout, seconds=seconds)
    if as_json:
        click.echo(report.model_dump_json(indent=1))
    else:
        _echo(_table(report))
    return 1 if report.advice else 0


def _echo(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)


def _advice(advice: Sequence[str]) -> Iterator[str]:
    yield from (f"advice: {line}" for line in advice)
    if not advice:
        yield "nothing to complain about"


def _table(report: HostsDiagnosis) -> Iterator[str]:
    for name, facts in report.hosts.items():
        yield name
        rows = [("", "did not answer")] if facts is None else _rows(facts)
        yield from (f"  {title:<18} {value}" for title, value in rows)
    yield from _links(report.links)
    if report.links_left_out:
        count = report.links_left_out
        yield f"  {count} of {count + len(report.links)} were not measured in the time: --seconds"
    yield from _advice(report.advice)


def _rows(facts: HostFacts) -> list[tuple[str, str]]:
    """(title, value) of each line about a host."""
    shared = facts.free_shared_memory_gib
    versions = ", ".join(f"{name} {facts.packages.get(name)}" for name in _SEEN_EVERYWHERE)
    aware = {True: ", CUDA-aware", False: ", not CUDA-aware", None: ""}[facts.cuda_aware]
    devices = [f"{d.name} ({d.free_gib:.1f} of {d.gib:.1f} GiB free)" for d in facts.devices]
    rows = [
        ("python", f"{facts.python} ({facts.executable})"),
        ("arignote", f"{facts.packages.get('arignote')} (code {facts.code or 'none'})"),
        ("packages", versions),
        ("MPI", f"{facts.mpi or 'none'}{aware}"),
        ("devices", ", ".join(devices) or "cpu"),
        ("cores", str(facts.cores)),
        ("memory", f"{facts.free_memory_gib:.1f} of {facts.memory_gib:.1f} GiB free"),
        ("shared memory", "none" if shared is None else f"{shared:.1f} GiB free"),
        ("network", _ways(facts)),
    ]
    if facts.clock_seconds is not None:
        rows.append(("clock", f"{facts.clock_seconds * 1000:+.1f} ms"))
    return rows


def _ways(facts: HostFacts) -> str:
    """`eth0 to h1, h2; h3 is not known by name`."""
    by_interface: dict[str | None, list[str]] = {}
    for host, interface in facts.ways.items():
        by_interface.setdefault(interface, []).append(host)
    unknown = by_interface.pop(None, [])
    parts = [f"{interface} to {', '.join(hosts)}" for interface, hosts in by_interface.items()]
    if unknown:
        parts.append(f"names not known here: {', '.join(unknown)}")
    return "; ".join(parts) or ", ".join(facts.interfaces)


def _links(links: Sequence[HostLink]) -> Iterator[str]:
    if not links:
        return
    yield f"links: {'there':>17} {'back':>8} Mbit/s {'latency':>9} us"
    shown = links if len(links) <= _SHOWN_LINKS else _extremes(links)
    for link in shown:
        pair = f"  {link.first} - {link.second}"
        yield f"{pair:<14} {link.there_mbit:9.0f} {link.back_mbit:8.0f} {link.latency_us:17.0f}"
    if len(shown) < len(links):
        yield f"  (the slowest, the median and the fastest of {len(links)}; all: --json)"


def _extremes(links: Sequence[HostLink]) -> list[HostLink]:
    ordered = sorted(links, key=lambda link: link.rate_mbit)
    return [ordered[0], ordered[len(ordered) // 2], ordered[-1]]
