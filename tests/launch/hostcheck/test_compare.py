"""Differences between hosts, in words."""

from __future__ import annotations

import pytest

from arignote.launch.hostcheck.compare import can_start, device_names, differences, names

H100 = {"name": "H100", "free_gib": 79.0, "gib": 80.0}


def test_hosts_that_are_alike(hosts):
    alike = hosts({}, {}, {})
    assert differences(alike) == []
    assert can_start(alike)


@pytest.mark.parametrize(
    ("first", "second", "line"),
    [
        (
            {"python": "3.10.4"},
            {"python": "3.11.7"},
            "h1 has Python 3.11.7, h0 has 3.10.4: use the same environment on all hosts",
        ),
        (
            {"packages": {"torch": "2.13.0"}},
            {"packages": {"torch": "2.12.0"}},
            "h1 has torch 2.12.0, h0 has 2.13.0: pip install torch==2.13.0 on h1",
        ),
        (
            {"packages": {"numba": None}},
            {"packages": {"numba": "0.60"}},
            "h1 has numba 0.60, h0 has none: pip install numba==0.60 on h0",
        ),
        (
            {"packages": {"numba": "0.60"}},
            {"packages": {"numba": None}},
            "h1 has no numba, h0 has 0.60: pip install numba==0.60 on h1",
        ),
        (
            {"packages": {"torch": None}},
            {"packages": {"torch": None}},
            "h0, h1 have no torch: pip install arignote on every host",
        ),
        (
            {"code": "abc"},
            {"code": "def"},
            "h1 has other code of arignote (def) than h0 (abc): bring the same to all hosts, or "
            "use a folder that they share",
        ),
        (
            {"code": "abc"},
            {"code": None},
            "h1 has other code of arignote (none) than h0 (abc): bring the same to all hosts, or "
            "use a folder that they share",
        ),
        (
            {"mpi": "MPICH 5"},
            {"mpi": "Open MPI v5"},
            "h1: mpi4py loads Open MPI v5, on h0 MPICH 5: install or load one MPI on all hosts",
        ),
        (
            {},
            {"mpi": None, "mpi_problem": "no libmpi"},
            "h1: mpi4py loads no MPI (no libmpi): pip install 'arignote[mpi]' there, or load your "
            "site's module",
        ),
        (
            {"cuda_aware": True},
            {"cuda_aware": False},
            "h1: the MPI is not CUDA-aware, on h0 it is: install or load one MPI on all hosts",
        ),
        (
            {"cuda_aware": False},
            {"cuda_aware": True},
            "h1: the MPI is CUDA-aware, on h0 it is not: install or load one MPI on all hosts",
        ),
        (
            {"devices": [H100, H100]},
            {},
            "h1 has no GPU, h0 has 2 x H100: workers of rules that keep step wait for the slowest; "
            "leave it out, or use --set train.balance=true",
        ),
        (
            {"clock_seconds": 0.0},
            {"clock_seconds": -3.21},
            "the clock of h1 is 3.2 s behind h0's: set both by NTP (chrony, systemd-timesyncd)",
        ),
        (
            {"clock_seconds": 0.0},
            {"clock_seconds": 2.0},
            "the clock of h1 is 2.0 s ahead of h0's: set both by NTP (chrony, systemd-timesyncd)",
        ),
    ],
)
def test_a_difference_names_both_sides(hosts, first, second, line):
    assert differences(hosts(first, second)) == [line]


def test_hosts_with_the_same_difference_share_a_line(hosts):
    old = {"packages": {"torch": "2.12.0"}}
    found = differences(hosts({}, old, {}, old, {"packages": {"torch": "2.11.0"}}))
    assert found == [
        "h1, h3 have torch 2.12.0, h0 has 1.0: pip install torch==1.0 on h1, h3",
        "h4 has torch 2.11.0, h0 has 1.0: pip install torch==1.0 on h4",
    ]


def test_no_mpi_anywhere(hosts):
    nowhere = {"mpi": None, "mpi_problem": "no libmpi"}
    lines = differences(hosts(nowhere, nowhere))
    assert [line.partition(":")[0] for line in lines] == ["h0", "h1"]


def test_no_code_anywhere_is_told_by_its_package(hosts):
    bare = {"code": None, "packages": {"arignote": None}}
    assert differences(hosts(bare, bare)) == [
        "h0, h1 have no arignote: pip install arignote on every host"
    ]


@pytest.mark.parametrize(
    "change",
    [{"mpi": None}, {"mpi": "MPICH 5"}, {"code": None}, {"packages": {"torch": None}}],
)
def test_a_job_cannot_start(hosts, change):
    assert not can_start(hosts({}, change))


def test_many_names():
    assert names(["a", "b", "c", "d"]) == "a, b, c, d"
    assert names(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"


def test_devices_by_kind(hosts):
    [facts] = hosts({"devices": [H100, {**H100, "name": "T4"}, H100]}).values()
    assert device_names(facts) == "2 x H100, 1 x T4"
