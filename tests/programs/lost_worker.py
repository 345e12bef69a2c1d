"""Worker 1 fails in the way named on the command line while the others wait for it."""

from __future__ import annotations

import os
import signal
import sys
import time

import torch

from arignote import failure
from arignote.comm.open import open_world

how = sys.argv[1]
world = open_world(30.0)
world.meet([], "the beginning")
world.timeout_seconds = 3.0
try:
    if world.rank == 1:
        if how == "sleeps":
            time.sleep(60)
        if how == "stopped":
            os.kill(os.getpid(), signal.SIGSTOP)
        if how == "raises":
            raise RuntimeError("a fault of the model's own")
        if how == "exits":
            os._exit(7)
        if how == "stopped-in-sum":
            world.meet([], "step 17")
            os.kill(os.getpid(), signal.SIGSTOP)
    world.meet([], "step 17")
    world.sum_(torch.ones(1_000_000), "the exchange of step 17")
except BaseException as error:
    failure.leave(error, world.rank)
