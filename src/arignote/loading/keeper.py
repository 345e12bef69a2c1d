"""`python -m arignote.loading.keeper ADDRESS`: spawned by MPI, keeps a server of loaders.

It parts from MPI before it starts the server, which forks loaders. It ends with it, without an
error: else MPI's launcher would take a server that ended for a failed job.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys

from arignote.comm.spawn import part
from arignote.loading.channel import peer_of, receive
from arignote.loading.process import server_command
from arignote.orphan import die_with_parent

_FOR_WORKERS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


def main(address: str) -> None:
    """Get from the worker at `address` what its server needs, and wait for that to end."""
    die_with_parent()
    # What the launcher has MPI tell all processes is for workers. Handled, not ignored, for what is
    # ignored here would be so in the server too.
    for number in _FOR_WORKERS:
        signal.signal(number, lambda *_: None)
    part()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as worker:
        try:
            worker.connect(f"\0{address}")
        except ConnectionRefusedError:
            # It has waited long enough, and says so itself; or it is on another host.
            return
        if peer_of(worker)[1] != os.getuid():
            return
        received = receive(worker)
    if received is None:
        return
    message, (channel, stdin, variables) = received
    os.sched_setaffinity(0, message["cores"])
    with os.fdopen(variables) as file:
        # The worker has written it, and its place in the file is ours too.
        file.seek(0)
        environment = json.load(file)
    # Of a session of its own: MPI's launcher may signal a whole group.
    process = subprocess.Popen(
        server_command(channel),
        stdin=stdin,
        pass_fds=[channel],
        env=environment,
        start_new_session=True,
    )
    # The worker hears of the server's end when nobody else holds its end of the channel.
    os.close(channel)
    os.close(stdin)
    process.wait()


if __name__ == "__main__":
    main(sys.argv[1])
