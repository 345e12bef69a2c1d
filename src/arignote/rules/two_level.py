"""Two levels: one rule among the workers of a host, another among all, less often.

In every step, with S_h the workers of host h:

    x_i, i in S_h  <-  a step of the inner rule (bsp, local-sgd) over S_h alone
    and if a round of the outer rule is due, it is that rule's own, over all workers

    x_i  a worker's weights                              replica.parameters

`bsp/diloco:period=50` is written INNER/OUTER (options.inner, options.outer). After a step of bsp
the workers of a host are equal, so the mean over all workers is the mean over the hosts, each
weighted by its samples; over the exchange `hier` each byte of it crosses the line once. The outer
optimizer of `diloco` then sees a host as the paper sees a worker.

Hierarchical local SGD: Lin, Stich, Patel, Jaggi, arXiv 1808.07217, section 5; the period of each
level as in torch's HierarchicalModelAverager. We differ: the inner rule is bsp by default, and the
outer one any that has periods. Inside a host the update is not sharded: a round of the outer rule
changes all weights.

The wish to stop goes by the outer rule, so that all hosts stop at the same step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from arignote.comm.base import World
from arignote.config.exchange_options import CodecOptions
from arignote.config.rule_options import BSPOptions, RuleOptions, TwoLevelOptions, parse_rule
from arignote.exchange.codecs.fp32 import FP32
from arignote.exchange.exchange import Exchange
from arignote.exchange.open import open_exchange
from arignote.frameworks.base import Replica
from arignote.registry import RULES
from arignote.rules.base import Bring, Rule, StepResult
from arignote.rules.periodic import Periodic


class TwoLevel(Rule):
    """An inner rule over each host, and an outer one over all workers."""

    options: TwoLevelOptions
    optimizer_is_local = True
    weights_are_local = True

    inner: Rule
    """Over the workers of this host; from `start` on, as the other."""
    outer: Periodic
    """Over all workers."""

    def start(self, replica: Replica) -> None:
        """As `Rule.start`, of both."""
        inside = _inside(self.options)
        outer: Periodic = self._open(parse_rule(self.options.outer), self.world, self.exchange)
        # Between its rounds no worker steps alone, but each host together.
        outer.update = self._step_inside  # type: ignore[method-assign]
        outer.start(replica)
        self.outer = outer
        hosts = [peer.host for peer in self.world.peers]
        self._host = self.world.split(hosts.index(hosts[self.world.rank]))
        self.inner = self._open(inside, self._host, self._exchange_inside(replica))
        self.inner.start(replica)

    def adopt(self, replica: Replica) -> None:
        """See `Rule.adopt`; of both."""
        self.outer.adopt(replica)
        self.inner.adopt(replica)

    def _open(self, rule: tuple[str, RuleOptions], world: World, exchange: Exchange) -> Any:
        name, options = rule
        opened: Rule = RULES.load(name)(
            options,
            world,
            exchange,
            self.recorder,
            stop_on_nan=self.stop_on_nan,
            seed=self.seed,
        )
        opened.remarks = self.remarks
        return opened

    def _exchange_inside(self, replica: Replica) -> Exchange:
        """In the memory that the workers of a host share already, if the vectors lie there."""
        route, device = self.exchange.route, replica.parameters[0].device
        if route.name in ("hier", "shm") and device.type == "cpu":
            # Over its own host alone a twin of either sums in place.
            return Exchange(route.twin(self._host), FP32(CodecOptions()))
        return open_exchange("auto", self._host, device)

    def step(self, replica: Replica, bring: Bring) -> StepResult:
        """A step of the inner rule, and a round of the outer one where one is due.

        See `Rule.step`.
        """
        result = self.outer.step(replica, bring)
        self.steps = self.outer.steps
        return result

    def _step_inside(self, replica: Replica, bring: Bring) -> None:
        self.inner.step(replica, bring)
        self.outer.steps += 1

    @contextmanager
    def consensus(self, replica: Replica) -> Iterator[None]:
        """The outer rule's: over all workers."""
        with self.outer.consensus(replica):
            yield

    def finish(self, replica: Replica) -> None:
        """As `Rule.finish`, of both; the host first, for it is there that others may wait."""
        self.inner.finish(replica)
        self.outer.finish(replica)
        self._host.close()

    def state_dict(self) -> dict[str, Any]:
        """The outer rule's, with the inner one's in it."""
        return {**self.outer.state_dict(), "inner": self.inner.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As `Rule.load_state_dict`; after `start`."""
        self.outer.load_state_dict(state)
        self.inner.load_state_dict(state["inner"])
        self.steps = self.outer.steps

    def merge_state_dicts(self, states: Sequence[dict[str, Any]]) -> None:
        """As `Rule.merge_state_dicts`, of both; hosts may have come or gone."""
        self.outer.merge_state_dicts(states)
        self.inner.merge_state_dicts([state["inner"] for state in states])
        self.steps = self.outer.steps


def _inside(options: TwoLevelOptions) -> tuple[str, RuleOptions]:
    """The inner rule and its options, bsp's without a sharded update."""
    name, inner = parse_rule(options.inner)
    if isinstance(inner, BSPOptions):
        inner = inner.model_copy(update={"sharded": "off"})
    return name, inner
