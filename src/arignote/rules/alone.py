"""What a worker does between rounds, in every rule that exchanges weights: a step of its own."""

from __future__ import annotations

import math

from arignote.frameworks.base import Replica
from arignote.recorder.phases import Recorder
from arignote.rules.base import Bring, Rule, not_a_number


def step_alone(rule: Rule, replica: Replica, bring: Bring) -> None:
    """One update from this worker's own gradient; `replica.parameters` are up to date after it.

    An empty batch changes nothing: its gradient of zero would still move a momentum.

    Raises:
        NotANumberError: this worker's loss is no number; nothing has changed.
    """
    check_number(rule, bring)
    if bring.samples:
        replica.collect_gradients()
        replica.update()
    replica.collect_parameters()
    rule.steps += 1
    rule.recorder.end("calc")


def check_number(rule: Rule, bring: Bring) -> None:
    """Raise a NotANumberError if this worker brought a loss that is none."""
    if rule.stop_on_nan and bring.loss is not None and not math.isfinite(bring.loss):
        peer = rule.world.peers[rule.world.rank]
        raise not_a_number(f"worker {peer.rank}", f"step {rule.steps + 1}")


def note_bytes(recorder: Recorder, wire_bytes: int) -> None:
    """Count a round and its bytes."""
    recorder.sent(wire_bytes)
    recorder.exchanges += 1
    recorder.end("comm")
