"""Which links are called slow."""

from __future__ import annotations

from arignote.launch.hostcheck.rates import slow_links
from arignote.launch.hostcheck.report import HostLink


def link(first, second, there, back=None):
    return HostLink(
        first=first,
        second=second,
        there_mbit=there,
        back_mbit=back or there,
        latency_us=50.0,
    )


def test_links_that_are_alike():
    assert slow_links([]) == []
    assert slow_links([link("a", "b", 940)]) == []
    assert slow_links([link("a", "b", 940), link("a", "c", 900), link("b", "c", 500)]) == []


def test_two_hosts_below_the_floor():
    # Both directions count.
    assert slow_links([link("a", "b", 940, 96)]) == [
        "a - b: 96 Mbit/s, less than 500: use a faster network (name its interface, as "
        "OMPI_MCA_btl_tcp_if_include does), or a rule or codec that sends less"
    ]


def test_one_slow_host_among_three_is_named_once():
    links = [link("a", "b", 940), link("a", "c", 95), link("b", "c", 96)]
    assert slow_links(links) == [
        "c: 96 Mbit/s at best with any other host, the others reach 940: look at its cable, "
        "switch port and interface, and at other traffic"
    ]


def test_a_slow_host_that_is_above_the_floor():
    links = [link("a", "b", 9400), link("a", "c", 940), link("b", "c", 940)]
    assert [line.partition(":")[0] for line in slow_links(links)] == ["c"]


def test_one_slow_link_between_good_hosts():
    links = [link("a", "b", 9000), link("a", "c", 2000), link("b", "c", 8000)]
    assert slow_links(links) == [
        "the link a - c: 2000 Mbit/s, but both reach 8000 with others: look at the switches "
        "between them"
    ]


def test_a_network_that_is_slow_everywhere():
    links = [link("a", "b", 90), link("a", "c", 92), link("b", "c", 94)]
    [line] = slow_links(links)
    assert line.startswith("all links: 90 Mbit/s, less than 500: ")
