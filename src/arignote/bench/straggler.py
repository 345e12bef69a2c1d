"""The workers of `arignote bench straggler`: one of them is slow, and every rule in turn.

Compute is a sleep (`bench.emulated`); the last worker's is longer. Before each rule all workers
step without exchanging: what the rule keeps of that speed is what counts.

python -m arignote.bench.straggler REQUEST
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

from arignote.bench.emulated import Emulation
from arignote.bench.entry import progress, serve
from arignote.bench.rows import PaceRow
from arignote.bench.rule_request import StragglerRequest
from arignote.bench.timing import line_up
from arignote.comm.base import World
from arignote.comm.crew import Crew
from arignote.config.rule_options import BSPOptions
from arignote.trainer.turns import open_turns

_WHAT = "the end of a rule of the bench"
_FOR_EVER = 10**12
_ALONE_PART = 0.25
"""Of the seconds of a rule."""
_WARM_STEPS, _MOST_WARM_STEPS, _WARM_SECONDS = 16, 256, 2.0


def main(request: StragglerRequest) -> None:
    """Be one worker."""
    serve(request.settings, lambda settings, crew: measure(request, crew))


def measure(request: StragglerRequest, crew: Crew) -> Iterator[PaceRow]:
    """All rules, one after the other."""
    world = crew.workers
    slowed = world.rank == world.size - 1
    pace = request.step_seconds * (request.slow if slowed else 1)
    for rule in request.rules:
        progress(world, f"{rule}, about {request.seconds * (1 + _ALONE_PART):g} s")
        alone = _alone(world, pace, request.seconds * _ALONE_PART)
        yield _race(request, rule, crew, pace, alone)


def _alone(world: World, pace: float, seconds: float) -> float:
    """Steps a second of this worker without exchanging."""
    line_up(world)
    steps, begun, lasted = 0, time.perf_counter(), 0.0
    while not steps or lasted < seconds:
        time.sleep(pace)
        steps += 1
        lasted = time.perf_counter() - begun
    return steps / lasted


def _race(request: StragglerRequest, rule: str, crew: Crew, pace: float, alone: float) -> PaceRow:
    world = crew.workers
    work = Emulation(rule, request.exchange, crew, request.elements)
    turns = open_turns(work.rule, world, work.recorder)
    _warm_up(work)
    line_up(world)
    before, exchanged = work.phases(), work.recorder.exchanges
    steps, begun = 0, time.perf_counter()

    def make(step: int, part: int) -> bool:
        nonlocal steps
        over = time.perf_counter() - begun >= request.seconds
        result = work.step(pace, stop=over)
        steps += 1
        return result.stop or (over and work.options.asynchronous)

    turns.run(_FOR_EVER, make)
    phases = work.phases(before)
    world.meet([], _WHAT)
    lasted = time.perf_counter() - begun
    turns.close()
    work.finish()
    exchanged = work.recorder.exchanges - exchanged
    told = world.gather([steps, exchanged, alone, lasted, *phases.values()], _WHAT)
    columns = [tuple(column) for column in zip(*told, strict=True)]
    spent = dict(zip(phases, columns[4:], strict=True))
    return PaceRow(
        rule,
        request.elements,
        world.size,
        work.options.asynchronous,
        request.slow,
        columns[0],
        max(columns[3]),
        columns[2],
        exchanges=None if isinstance(work.options, BSPOptions) else columns[1],
        calc=spent["calc"],
        comm=spent["comm"],
        sync=spent["sync"],
        wait=spent["wait"],
    )


def _warm_up(work: Emulation) -> None:
    """Some rounds without sleeping: what is compiled or mapped when it is first used."""
    period = getattr(work.options, "period", None)
    # Of a rule that exchanges now and then, by lot, as many steps as it takes.
    rare = work.options.asynchronous and period is None
    steps = _MOST_WARM_STEPS if rare else min(2 * (period or 1) + _WARM_STEPS, _MOST_WARM_STEPS)
    begun = time.perf_counter()
    for _ in range(steps):
        work.step(0.0)
        if work.options.asynchronous and time.perf_counter() - begun > _WARM_SECONDS:
            return


if __name__ == "__main__":
    given: dict[str, Any] = json.loads(sys.argv[1])
    main(StragglerRequest(**given))
