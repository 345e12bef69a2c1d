"""Which links are slow.

A host is slow if its best link has less than half the rate of what is usual: the median of the
best links of the other hosts. By each host's best link, not by the median of all links, because one
slow host among three makes two slow links of three.
A link is slow if its rate is less than half of the best that both of its hosts have with others.
Whatever the others do, less than `FLOOR_MBIT` is slow: half of gigabit Ethernet, below which
nearly any exchange takes longer than it should. Between two hosts there is nothing else to go by.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from arignote.launch.hostcheck.compare import names
from arignote.launch.hostcheck.report import HostLink

FLOOR_MBIT = 500.0
_REMEDY = "look at its cable, switch port and interface, and at other traffic"


def slow_links(links: Sequence[HostLink]) -> list[str]:
    """A line for each host or link that is slow."""
    best = _best_rates(links)
    slow_hosts = {}
    for host, rate in best.items():
        others = [other for name, other in best.items() if name != host]
        if len(others) > 1 and rate < statistics.median(others) / 2:
            slow_hosts[host] = statistics.median(others)
    lines = [
        f"{host}: {best[host]:.0f} Mbit/s at best with any other host, the others reach "
        f"{usual:.0f}: {_REMEDY}"
        for host, usual in slow_hosts.items()
    ]
    rest = [link for link in links if not {link.first, link.second} & slow_hosts.keys()]
    below = [link for link in rest if link.rate_mbit < FLOOR_MBIT]
    lines += _below_floor(below, len(links))
    for link in rest:
        usual = min(best[link.first], best[link.second])
        if link not in below and link.rate_mbit < usual / 2:
            lines.append(
                f"the link {link.first} - {link.second}: {link.rate_mbit:.0f} Mbit/s, but both "
                f"reach {usual:.0f} with others: look at the switches between them"
            )
    return lines


def _best_rates(links: Sequence[HostLink]) -> dict[str, float]:
    best: dict[str, float] = {}
    for link in links:
        for host in (link.first, link.second):
            best[host] = max(best.get(host, 0.0), link.rate_mbit)
    return best


def _below_floor(links: Sequence[HostLink], measured: int) -> list[str]:
    if not links:
        return []
    which = names([f"{link.first} - {link.second}" for link in links])
    if len(links) == measured > 1:
        which = "all links"
    rates = [link.rate_mbit for link in links]
    return [
        f"{which}: {min(rates):.0f} Mbit/s, less than {FLOOR_MBIT:.0f}: use a faster network "
        "(name its interface, as OMPI_MCA_btl_tcp_if_include does), or a rule or codec that "
        "sends less"
    ]
