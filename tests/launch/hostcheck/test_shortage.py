"""What a host lacks, in words."""

from __future__ import annotations

import pytest

from arignote.launch.hostcheck.shortage import shortages

H100 = {"name": "H100", "free_gib": 79.0, "gib": 80.0}


def test_hosts_that_lack_nothing(hosts):
    interfaces = [("HYDRA_IFACE", ["eth0"]), ("GLOO_SOCKET_IFNAME", ["10.0.0.0/24"])]
    found = hosts({"devices": [H100], "visible_devices": 1}, {"ways": {"h0": "eth0", "h9": None}})
    assert shortages(found, {"h0": 2, "h1": 4}, interfaces, 1) == []


@pytest.mark.parametrize(
    ("change", "slots", "threads", "line"),
    [
        (
            {"cores": 2},
            4,
            1,
            "h0 has fewer cores (2) than workers (4): use h0:2, or expect them to take turns",
        ),
        (
            {"cores": 4},
            2,
            4,
            "h0 has fewer cores (4) than threads (2 x 4, counted on the launcher's host): use "
            "--set launch.threads=2",
        ),
        (
            {"free_memory_gib": 1.5},
            2,
            1,
            "h0 has 1.5 GiB of free memory, less than 2.0: end other programs there, or give it "
            "fewer workers",
        ),
        (
            {"free_memory_gib": 9.0, "cores": 64},
            64,
            1,
            "h0 has 9.0 GiB of free memory, less than 12.8: end other programs there, or give it "
            "fewer workers",
        ),
        (
            {"free_shared_memory_gib": 0.1},
            1,
            1,
            "h0 has less than 1 GiB free in /dev/shm: enlarge it (docker: --shm-size=8g)",
        ),
        (
            {"free_shared_memory_gib": None},
            1,
            1,
            "h0 has no /dev/shm: mount one, for its workers exchange through it "
            "(docker: --shm-size=8g)",
        ),
        (
            {"ways": {"h1": "lo", "h2": "eth0"}},
            1,
            1,
            "on h0 the name h1 leads back to itself (lo): correct its /etc/hosts",
        ),
        (
            {"devices": [H100], "visible_devices": 0},
            1,
            1,
            "h0 has 1 x H100, but torch sees no GPU there: install a torch with CUDA, or look at "
            "CUDA_VISIBLE_DEVICES and the driver",
        ),
    ],
)
def test_a_shortage(hosts, change, slots, threads, line):
    assert shortages(hosts(change), {"h0": slots}, [], threads) == [line]


def test_slots_that_are_not_known(hosts):
    assert shortages(hosts({"cores": 1}), {}, [], 4) == []


def test_an_interface_that_is_not_there(hosts):
    found = hosts({}, {"interfaces": {"lo": [], "ib0": ["10.9.0.1"]}})
    assert shortages(found, {}, [("HYDRA_IFACE", ["ib0", "ib1"])], 1) == [
        "h0 has no interface ib0,ib1, which HYDRA_IFACE names (h0 has lo, eth0): name one that "
        "leads to the other hosts, or leave the setting out"
    ]


def test_one_machine_under_two_names(hosts):
    same = {"node": "a", "interfaces": {"eth0": ["10.0.0.1"]}}
    found = hosts({**same, "ways": {"h1": "lo"}}, {**same, "ways": {"h0": "lo"}})
    assert shortages(found, {}, [], 1) == [
        "h0 and h1 are one machine (a): name it once, with all slots"
    ]
