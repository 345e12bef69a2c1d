"""A real OpenSSH server on every host of a netlab: `scripts/netlab 2 1gbit --sshd -- COMMAND`.

All keys and configurations lie in the lab's folder, and go with it; nothing of the user's own
(~/.ssh, an agent, the machine's known hosts) is read or written.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

PROGRAM = "/usr/sbin/sshd"
_PRIVILEGE_FOLDER = Path("/run/sshd")
"""Where sshd wants an empty folder; Debian's package makes it when the machine starts."""
_START_SECONDS = 20

_SERVER = """\
ListenAddress {address}:22
HostKey {folder}/{name}.key
PidFile {folder}/{name}.sshd.pid
AuthorizedKeysFile {folder}/client.key.pub
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UsePAM no
UseDNS no
# So that its hosts reach each other with the lab's keys, too.
SetEnv PATH={wrapper.parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# In /tmp everybody may make folders, which it would take for unsafe.
StrictModes no
# An MPI, and those who ask all hosts at once, open many connections in a moment.
MaxStartups 100
"""
_CLIENT = """\
Host *
  User root
  IdentityFile {folder}/client.key
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile {folder}/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
"""
_WRAPPER = """\
#!/bin/sh
exec {ssh} -F {folder}/config "$@"
"""


def missing() -> str:
    """What the machine lacks for it, in words; empty: nothing."""
    lacks = [] if Path(PROGRAM).exists() else [PROGRAM]
    lacks += [name for name in ("ssh", "ssh-keygen") if shutil.which(name) is None]
    if not lacks:
        return ""
    return f"no program {lacks[0]!r}: apt-get install openssh-server"


def write_files(folder: Path, wrapper: Path, addresses: dict[str, str]) -> None:
    """Keys and configurations of all hosts in `folder`, and the `ssh` that uses them.

    Args:
        addresses: of each host, by its name.

    Raises:
        CalledProcessError: ssh-keygen failed.
    """
    folder.mkdir(mode=0o700)
    for name in ("client", *addresses):
        make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name]
        subprocess.run([*make, "-f", f"{folder}/{name}.key"], check=True)
    known = [
        f"{name},{address} {(folder / f'{name}.key.pub').read_text()}"
        for name, address in addresses.items()
    ]
    (folder / "known_hosts").write_text("".join(known))
    (folder / "config").write_text(_CLIENT.format(folder=folder))
    for name, address in addresses.items():
        server = _SERVER.format(folder=folder, name=name, address=address, wrapper=wrapper)
        (folder / f"{name}.conf").write_text(server)
    wrapper.write_text(_WRAPPER.format(ssh=shutil.which("ssh"), folder=folder))
    wrapper.chmod(0o755)
    _PRIVILEGE_FOLDER.mkdir(mode=0o755, exist_ok=True)


def start(folder: Path, name: str, enter: list[str]) -> str:
    """Start a host's server and wait until it listens; why it does not, empty if it does.

    Args:
        enter: what leads a command into the host.
    """
    log = folder / f"{name}.log"
    command = [*enter, PROGRAM, "-D", "-f", f"{folder}/{name}.conf", "-E", str(log)]
    server = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + _START_SECONDS
    # It writes its number once it listens.
    while not (folder / f"{name}.sshd.pid").exists():
        if server.poll() is not None or time.monotonic() > deadline:
            said = log.read_text().split() if log.exists() else []
            return f"sshd of host {name} did not start: {' '.join(said) or 'it says no reason'}"
        time.sleep(0.01)
    return ""
