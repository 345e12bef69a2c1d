"""Check all hosts of a job: ask each, compare, and measure the links between them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from arignote.bench.link_report import LinkReport
from arignote.config.settings import Launch
from arignote.errors import ArignoteError, UserError
from arignote.launch.allocation import find_allocation
from arignote.launch.environment import (
    forwarded_environment,
    own_environment,
    worker_environment,
)
from arignote.launch.find import find_launcher
from arignote.launch.hostcheck.compare import can_start, differences
from arignote.launch.hostcheck.job import measure_links, one_a_host
from arignote.launch.hostcheck.network_settings import named_interfaces
from arignote.launch.hostcheck.rates import slow_links
from arignote.launch.hostcheck.reach import ask_hosts, find_shell
from arignote.launch.hostcheck.report import HostFacts, HostLink, HostsDiagnosis
from arignote.launch.hostcheck.shortage import shortages
from arignote.launch.placement import Placement, place

_NO_HOSTS = (
    "no hosts to check: name them with --hosts A:2,B:2 or --hostfile FILE; without any option "
    "`arignote doctor` checks this machine"
)


def examine_hosts(settings: Launch, *, timeout_seconds: float, seconds: float) -> HostsDiagnosis:
    """Check the hosts that these settings place workers on.

    Args:
        timeout_seconds: how long a host may take to answer, and any wait of the job.
        seconds: no further link is measured after that.

    Raises:
        UserError: there are no hosts, or too few slots on them.
    """
    placement = place(settings)
    allocation = find_allocation()
    named = settings.hosts or settings.hostfile
    # Of an allocation all: `place` takes only as many as the workers need.
    there = placement.hosts if named or allocation is None else allocation.hosts
    slots = {host.name: host.slots for host in there}
    hosts = list(slots)
    if not hosts:
        raise UserError(_NO_HOSTS)
    shell = find_shell(settings, slurm=allocation is not None and allocation.scheduler == "Slurm")
    environment = _environment(settings, placement)
    answers = ask_hosts(hosts, shell, environment, timeout_seconds, otherwise="raise --timeout")
    found = {name: facts for name, facts in answers.items() if isinstance(facts, HostFacts)}
    advice = [problem for problem in answers.values() if isinstance(problem, str)]
    measured = _Measured(found)
    if len(found) == len(hosts) > 1:
        measured = _measure(settings, found, timeout_seconds, seconds)
    elif found and len(hosts) > 1:
        measured.problem = "the links were not measured: all hosts must answer first"
    advice += [measured.problem] if measured.problem else []
    if found:
        advice += differences(measured.facts)
        threads = 0 if settings.threads else placement.threads
        advice += shortages(measured.facts, slots, named_interfaces(settings), threads)
    return HostsDiagnosis(
        hosts={name: measured.facts.get(name) for name in hosts},
        links=measured.links,
        links_left_out=measured.left_out,
        advice=[*advice, *slow_links(measured.links)],
    )


@dataclass
class _Measured:
    """What is known once the job has run, or was not started."""

    facts: Mapping[str, HostFacts]
    links: list[HostLink] = field(default_factory=list)
    left_out: int = 0
    problem: str = ""


def _environment(settings: Launch, placement: Placement) -> dict[str, str]:
    """What workers on other hosts would have."""
    environment = own_environment() | worker_environment(placement)
    try:
        library = find_launcher(settings).library
    except UserError:
        # That there is no MPI here is told when the job is to start.
        library = ""
    if library:
        environment["MPI4PY_LIBMPI"] = library
    return forwarded_environment(settings, placement, environment)


def _measure(
    settings: Launch, found: Mapping[str, HostFacts], timeout_seconds: float, seconds: float
) -> _Measured:
    if not can_start(found):
        why = "the links were not measured: every host needs one and the same MPI, and our packages"
        return _Measured(found, problem=why)
    # On stderr, because loading torch on every host may take a while.
    sys.stderr.write(f"arignote: measuring the links between {len(found)} hosts\n")
    nodes = [facts.node for facts in found.values()]
    job = one_a_host(settings, list(found), timeout_seconds)
    try:
        report = measure_links(job, nodes, timeout_seconds, seconds)
    except ArignoteError as error:
        return _Measured(found, problem=f"the links were not measured: {error}")
    order = in_order(list(found), nodes, [rank.node for rank in report.ranks])
    return _Measured(with_job(found, report, order), host_links(report, order), report.left_out)


def in_order(hosts: Sequence[str], nodes: Sequence[str], ranks: Sequence[str]) -> list[str]:
    """The host of each rank.

    Args:
        nodes: what the hosts call themselves.
        ranks: what the ranks' hosts call themselves: a launcher may begin with another.
    """
    if len(set(nodes)) == len(nodes) and sorted(ranks) == sorted(nodes):
        names = dict(zip(nodes, hosts, strict=True))
        return [names[node] for node in ranks]
    return list(hosts)


def with_job(
    found: Mapping[str, HostFacts], report: LinkReport, order: Sequence[str]
) -> dict[str, HostFacts]:
    """The facts with what the job found out; clocks against the first host's."""
    first = next(iter(found))
    ahead = {first: 0.0}
    for link in report.links:
        one, other = order[link.first], order[link.second]
        if one == first:
            ahead[other] = link.clock_seconds
        elif other == first:
            ahead[one] = -link.clock_seconds
    whole = {}
    for name, facts in found.items():
        rank = report.ranks[order.index(name)]
        whole[name] = facts.model_copy(
            update={
                "cuda_aware": rank.cuda_aware,
                "clock_seconds": ahead.get(name),
                "visible_devices": len(rank.devices),
                # The driver's own tool knows nothing of CUDA_VISIBLE_DEVICES.
                "devices": rank.devices or facts.devices,
            }
        )
    return whole


def host_links(report: LinkReport, order: Sequence[str]) -> list[HostLink]:
    """The links between hosts instead of ranks."""
    return [
        HostLink(
            first=order[link.first],
            second=order[link.second],
            there_mbit=link.there_mbit,
            back_mbit=link.back_mbit,
            latency_us=link.latency_us,
        )
        for link in report.links
    ]
