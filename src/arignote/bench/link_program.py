"""The worker program that measures the links between hosts, for `arignote doctor --hosts`.

What takes long to load is loaded after it has said that it runs, so that a host that did not start
can be told from one that is slow to load torch.
"""

from __future__ import annotations

import json
import platform
import sys

from arignote import failure
from arignote.bench.link_report import HERE_PREFIX, MET_LINE, REPORT_PREFIX, LinkReport, Rank
from arignote.orphan import die_with_parent


def main(timeout_seconds: float, seconds: float) -> None:
    """One of the workers; rank 0 prints the report. A failure ends the process.

    Args:
        timeout_seconds: how long any wait may last.
        seconds: no link is begun after that.
    """
    die_with_parent()
    rank = 0
    try:
        _say(f"{HERE_PREFIX}{platform.node()}")
        from arignote.bench.links import measure, own_rank
        from arignote.comm.open import open_world

        world = open_world(timeout_seconds)
        rank = world.rank
        if rank == 0:
            _say(MET_LINE)
        ranks = [Rank(**found) for found in world.gather(own_rank().model_dump(), "the ranks")]
        links, left_out = measure(world, seconds)
        if rank == 0:
            report = LinkReport(ranks=ranks, links=links, left_out=left_out)
            _say(f"{REPORT_PREFIX}{report.model_dump_json()}")
        world.close()
    except BaseException as error:
        failure.leave(error, rank)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*json.loads(sys.argv[1]))
