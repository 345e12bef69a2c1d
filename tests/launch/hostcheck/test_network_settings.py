"""What was told to MPI, and whether a host has it."""

from __future__ import annotations

import pytest

from arignote.config.settings import Launch
from arignote.launch.hostcheck.network_settings import (
    INTERFACES,
    find_setting,
    has_interface,
    named_interfaces,
)

HAS = {"lo": ["127.0.0.1"], "eth0": ["10.1.2.3", "fe80::1"]}


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    for name in INTERFACES:
        monkeypatch.delenv(name, raising=False)


def test_nothing_is_named():
    assert named_interfaces(Launch()) == []
    assert find_setting(Launch(), INTERFACES) is None


def test_variables_and_arguments(monkeypatch):
    monkeypatch.setenv("HYDRA_IFACE", "eth1")
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "^docker,lo")
    monkeypatch.setenv("OMPI_MCA_btl_tcp_if_include", "eth2")
    settings = Launch(mpirun_arguments=["--mca", "btl_tcp_if_include", "ib0,10.0.0.0/8"])
    assert named_interfaces(settings) == [
        ("btl_tcp_if_include", ["ib0", "10.0.0.0/8"]),
        ("HYDRA_IFACE", ["eth1"]),
    ]


@pytest.mark.parametrize(
    ("setting", "names", "there"),
    [
        ("HYDRA_IFACE", ["eth0"], True),
        ("HYDRA_IFACE", ["eth"], False),
        ("HYDRA_IFACE", ["ib0", " eth0"], True),
        ("HYDRA_IFACE", ["10.1.0.0/16"], True),
        ("HYDRA_IFACE", ["10.2.0.0/16"], False),
        ("HYDRA_IFACE", ["fe80::/10"], True),
        ("HYDRA_IFACE", ["what/ever"], False),
        ("NCCL_SOCKET_IFNAME", ["eth"], True),
        ("NCCL_SOCKET_IFNAME", ["=eth"], False),
        ("NCCL_SOCKET_IFNAME", ["=eth0"], True),
        ("NCCL_SOCKET_IFNAME", ["ib"], False),
    ],
)
def test_whether_a_host_has_it(setting, names, there):
    assert has_interface(setting, names, HAS) is there
