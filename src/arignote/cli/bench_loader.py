"""`arignote bench loader`: loading images, ours beside PyTorch's; one process, without MPI."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from arignote.cli.bench_common import find_report, json_option, positive, print_report

if TYPE_CHECKING:
    from arignote.bench.loader_request import LoaderRequest
    from arignote.bench.rows import Report
    from arignote.data.prepare.samples import Sample

_CLOSE_SECONDS = 10.0
_TRACKER = "multiprocessing.resource_tracker"
_TRACKER_CODE = f"from {_TRACKER} import"
"""What its command line runs; the name alone stands in all that inherit the option below."""
_QUIET = f"ignore::UserWarning:{_TRACKER}"
"""It would tell what those left that were killed here on purpose."""


@click.command(context_settings={"show_default": True})
@click.option(
    "--data", metavar="SRC", help="What `arignote prepare` reads.  [default: images made up here]"
)
@click.option("--class-from-name", is_flag=True, help="As in `arignote prepare`.")
@click.option("--images", default=512, metavar="N", help="How many are loaded, at most.")
@click.option("--size", default=224, metavar="PIXELS", help="Of a side of a sample.")
@click.option("--loaders", default="1,2", metavar="K,...", help="How many, ours and a peer's.")
@click.option("--vs", default="torch", metavar="PEER", help="Peers: torch, or none.")
@click.option("--batch-size", default=128, metavar="N", help="Samples of a batch.")
@click.option("--seconds", default=8.0, metavar="S", help="How long to time each entrant.")
@json_option
def loader(**given: Any) -> int:
    """Load prepared shards and JPEGs, beside torch's DataLoader and its workers.

    Also the time to the first batch, the memory of loaders, and the opening of a set of
    ImageNet's size. All of it is made in a temporary folder (see TMPDIR); SRC is only read.
    """
    from arignote.bench.loader_report import show_loader

    with _ends_by_signal(), TemporaryDirectory(prefix="arignote-") as folder:
        request, samples = _request(given, folder)
        _bring_images(Path(folder, "images"), samples, given["images"])
        report = _run(request)
    if isinstance(report, int):
        return report
    print_report(report, show_loader, as_json=given["as_json"])
    return 0


def _request(given: dict[str, Any], folder: str) -> tuple[LoaderRequest, list[Sample] | None]:
    """What is asked for, and the user's images.

    Raises:
        UserError: an option is wrong, or the batches would not fit into memory.
        DataError: there are no such images.
    """
    from arignote.bench.loader_images import find_images
    from arignote.bench.loader_request import (
        LOADER_PEERS,
        LoaderRequest,
        check_room,
        parse_loaders,
        whole,
    )
    from arignote.bench.request import parse_peers
    from arignote.errors import UserError

    source = given["data"]
    if given["class_from_name"] and source is None:
        raise UserError("--class-from-name says how --data is read: name it, or leave it out")
    whole("--images", given["images"])
    request = LoaderRequest(
        folder,
        source is None,
        whole("--size", given["size"]),
        parse_loaders(given["loaders"]),
        parse_peers(given["vs"], LOADER_PEERS),
        whole("--batch-size", given["batch_size"]),
        positive("--seconds", given["seconds"]),
    )
    check_room(request)
    if source is None:
        return request, None
    return request, find_images(Path(source), class_from_name=given["class_from_name"])


def _bring_images(folder: Path, samples: list[Sample] | None, most: int) -> None:
    from arignote.bench.loader_images import copy_images, make_images

    if samples is None:
        make_images(folder, most)
    else:
        copy_images(samples, folder, most)


def _run(request: LoaderRequest) -> Report | int:
    """The report of the program; an exit code where there is none. No process is left."""
    from arignote.errors import ArignoteError

    command = [sys.executable, "-m", "arignote.bench.loader", request.text()]
    # A session of its own: Ctrl-C is ours alone, and its number is that of all its processes.
    warnings = filter(None, [os.environ.get("PYTHONWARNINGS"), _QUIET])
    # Python's own temporary folders, of sockets, go with ours. (Their names must be short.)
    own = {"PYTHONWARNINGS": ",".join(warnings), "TMPDIR": request.folder}
    environment = {**os.environ, **own}
    # Into a file, for a pipe would end only with the last process that has it open.
    with (
        TemporaryFile("w+", encoding="utf-8", errors="replace") as printed,
        subprocess.Popen(command, stdout=printed, start_new_session=True, env=environment) as child,
    ):
        try:
            child.wait()
        finally:
            _end_all(child.pid)
        printed.seek(0)
        found = find_report(printed.read())
    if child.returncode > 0:
        return child.returncode
    if found is None:
        ending = f"by signal {-child.returncode}" if child.returncode else "without a report"
        raise ArignoteError(f"the process that measures ended {ending}")
    return found


def _end_all(session: int) -> None:
    """End what is left of the child's session.

    Python's resource trackers are let be, as long as they leave by themselves: they remove what
    those that were killed have left in /dev/shm.
    """
    deadline = time.monotonic() + _CLOSE_SECONDS
    while _kill(session, trackers=time.monotonic() > deadline):
        time.sleep(0.02)


def _kill(session: int, *, trackers: bool) -> bool:
    """Kill its processes, and say whether there were any."""
    import psutil

    found = False
    for pid in psutil.pids():
        with suppress(OSError, psutil.Error):
            process = psutil.Process(pid)
            if os.getsid(pid) != session or process.status() == psutil.STATUS_ZOMBIE:
                continue
            found = True
            if trackers or not any(_TRACKER_CODE in part for part in process.cmdline()):
                process.kill()
    return found


@contextmanager
def _ends_by_signal() -> Iterator[None]:
    """SIGTERM and SIGHUP end as Ctrl-C does: processes are ended, and the folder is removed.

    SIGINT too, which a shell lets those ignore that it starts in the background.
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    ends = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers = {number: signal.signal(number, end) for number in ends}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
