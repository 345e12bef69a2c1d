"""All checks of worlds, services and exchanges on the world that this process was started into.

In one program: to start the workers of three would take longer than what they do.
"""

from __future__ import annotations

import exchange_checks
import service_checks
import torch
import world_checks

from arignote.comm.base import DeviceBuffers, World
from arignote.comm.cuda_aware import says_cuda_aware
from arignote.comm.device_buffers import ask
from arignote.comm.open import open_world


def check_all(world: World) -> list[str]:
    """What was checked, in words."""
    for check in world_checks.CHECKS:
        check(world)
    done = [f"{len(world_checks.CHECKS)} checks of the world"]
    if world.size == 3:
        service_checks.check_all(world)
        done.append("services")
    if world.size in (2, 4):
        check_trial(world)
        done.append("a trial of memory")
    if world.size > 1:
        done.append(f"{exchange_checks.check_all(world)} exchanges")
    return done


def check_trial(world: World) -> None:
    """A worker of a job starts an MPI process that is none of the job's, with host memory here."""
    if world.rank == 0:
        assert says_cuda_aware() is False or "Open MPI" not in world.library
        answer = ask(torch.device("cpu"), 60.0)
        assert answer == DeviceBuffers(True, "a trial with memory of cpu went well"), answer
    world.meet([], "the trial")


def main() -> None:
    """Check, and say so."""
    world = open_world(60.0)
    done = check_all(world)
    if world.rank == 0:
        what = ", ".join(done)
        print(f"checked with {world.size} workers, {world.library}: {what}", flush=True)
    world.meet([], "the end")
    world.close()


if __name__ == "__main__":
    main()
