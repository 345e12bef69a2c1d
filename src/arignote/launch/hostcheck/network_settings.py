"""What a user has told MPI, NCCL or gloo about the network: by variables, or by arguments of
mpirun.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Sequence

from arignote.config.settings import Launch

INTERFACES = (
    "OMPI_MCA_btl_tcp_if_include",
    "OMPI_MCA_oob_tcp_if_include",
    "PRTE_MCA_prte_if_include",
    "HYDRA_IFACE",
    "I_MPI_HYDRA_IFACE",
    "FI_TCP_IFACE",
    "GLOO_SOCKET_IFNAME",
    "NCCL_SOCKET_IFNAME",
)
"""Variables that name network interfaces, or networks as 10.0.0.0/24."""
_MCA = ("OMPI_MCA_", "PRTE_MCA_")
_NCCL = "NCCL_SOCKET_IFNAME"


def find_setting(settings: Launch, variables: Sequence[str]) -> tuple[str, str] | None:
    """(what it is called, its value), of the first of `variables` that is set."""
    arguments = settings.mpirun_arguments
    for variable in variables:
        for prefix in _MCA:
            name = variable.removeprefix(prefix)
            # As in `--mca NAME VALUE`, which wins over the variable.
            if name != variable and name in arguments[:-1]:
                return name, arguments[arguments.index(name) + 1]
        value = os.environ.get(variable, "")
        if value:
            return variable, value
    return None


def named_interfaces(settings: Launch) -> list[tuple[str, list[str]]]:
    """(setting, the interfaces or networks that it names), for each that names some."""
    found = []
    for variable in INTERFACES:
        setting = find_setting(settings, [variable])
        # NCCL's ^docker names what is not to be used.
        if setting is not None and not setting[1].startswith("^"):
            found.append((setting[0], setting[1].split(",")))
    return found


def has_interface(setting: str, names: Iterable[str], interfaces: dict[str, list[str]]) -> bool:
    """Whether a host with these `interfaces` has one of those that `setting` names."""
    return any(_has(setting, name.strip(), interfaces) for name in names)


def _has(setting: str, name: str, interfaces: dict[str, list[str]]) -> bool:
    if setting == _NCCL:
        # Beginnings of names, unless =eth0 is written.
        if name.startswith("="):
            return name[1:] in interfaces
        return any(interface.startswith(name) for interface in interfaces)
    if "/" not in name:
        return name in interfaces
    try:
        network = ipaddress.ip_network(name, strict=False)
    except ValueError:
        return False
    return any(
        ipaddress.ip_address(address) in network
        for addresses in interfaces.values()
        for address in addresses
    )
