"""What the rules without a centre have in common: workers that write letters to each other.

`Gossip` is for those whose workers step alone (gosgd, adpsgd); sgp, which keeps step, takes the
functions only.

Nobody waits for a letter but where all workers meet (validation, checkpoint, end): there all that
are on their way are taken in first, so that a saved state has none. So a run that saves more
often mixes some letters sooner: what the workers do together is no longer the same, step by step,
but that depends on who is how fast in any case.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import torch

from arignote.exchange.jit import jit, load
from arignote.exchange.letter_format import Array
from arignote.exchange.letters import Letter, Mailbox
from arignote.frameworks.base import Replica
from arignote.rules.alone import step_alone
from arignote.rules.base import Bring, Rule, StepResult

_STREAM = 0x6055
"""Tells the generators of these rules from all others."""
_YIELD_SECONDS, _NAP_SECONDS = 0.01, 0.0005


@jit
def mix_(mine: Array, theirs: Array, part: float) -> None:
    """mine <- mine + part (theirs - mine); all of one dtype, shapes (n,), (n,), ().

    In this form equal vectors stay what they are, to the last bit: nothing drifts.
    """
    for i in range(mine.size):
        mine[i] += part * (theirs[i] - mine[i])


@jit
def keep_rest_(mine: Array, arrives: Array) -> None:
    """mine <- mine + (mine - arrives); shapes (n,), (n,).

    Of two equal shares of a vector one was sent, and arrives as the wire could carry it: the
    other takes what was lost, so that their sum is what it was.
    """
    for i in range(mine.size):
        mine[i] += mine[i] - arrives[i]


def mix(mine: Sequence[Array], theirs: Sequence[Array], part: float) -> None:
    """`mix_` of all vectors."""
    for own, other in zip(mine, theirs, strict=True):
        mix_(own, other, own.dtype.type(part))


def keep_rest(mine: Sequence[Array], arrives: Sequence[Array]) -> None:
    """`keep_rest_` of all vectors."""
    for own, other in zip(mine, arrives, strict=True):
        keep_rest_(own, other)


def host_of(vector: torch.Tensor) -> torch.Tensor:
    """`vector` itself where a letter can hold it, else a copy that it can."""
    wide = vector.dtype in (torch.float32, torch.float64)
    return vector.detach().to("cpu", vector.dtype if wide else torch.float32)


@contextmanager
def on_host(vectors: Sequence[torch.Tensor]) -> Iterator[list[Array]]:
    """Inside: arrays of `vectors`; after, these are what the arrays have become."""
    hosts = [host_of(vector) for vector in vectors]
    yield [host.numpy() for host in hosts]
    for host, vector in zip(hosts, vectors, strict=True):
        if host.data_ptr() != vector.data_ptr():
            vector.copy_(host)


def way_of_letters(rule: Rule) -> str:
    """`Rule.way` of the rules that write letters: of the exchange they use the codec."""
    exchange = rule.exchange
    return exchange.name if rule.world.size == 1 else f"letters in {exchange.codec_name}"


def own_stream(seed: int, rank: int, steps: int = 0) -> np.random.Generator:
    """A generator of this worker's own, that no other worker and nobody else draws from.

    Args:
        seed: of the run.
        steps: at which it begins.
    """
    words = np.random.SeedSequence((_STREAM, seed, rank, steps))
    return np.random.Generator(np.random.PCG64(words))


class Gossip(Rule):
    """A rule whose workers step alone and write letters; a member says when, and what in them."""

    name: ClassVar[str]
    """For remarks."""
    optimizer_is_local = True
    weights_are_local = True
    averages = False
    answered: ClassVar[bool] = False
    """Whether letters are answered."""
    loops: ClassVar[Sequence[Any]]
    """The compiled loops that `write` and `read` use."""

    _box: Mailbox | None = None

    @property
    def way(self) -> str:
        """See `Rule.way`."""
        return way_of_letters(self)

    @abstractmethod
    def write(self, box: Mailbox) -> None:
        """After a step, and after the letters that were here: write one, if it is time."""

    @abstractmethod
    def read(self, box: Mailbox, letter: Letter, mine: list[Array]) -> None:
        """Take in a letter; `mine` are this worker's weights, to be changed in place."""

    def share(self) -> float | None:
        """This worker's part in the mean of the weights, relative to 1; None: all alike."""
        return None

    def start(self, replica: Replica) -> None:
        """As `Rule.start`, and open the mailbox."""
        super().start(replica)
        self._replica = replica
        self._random = own_stream(self.seed, self.world.rank)
        if self.world.size == 1:
            self.remarks.append(
                f"{self.name} with one worker is plain SGD: there is nobody to exchange with"
            )
            return
        hosts = [host_of(vector) for vector in replica.parameters]
        load(self.loops, [host.numpy().dtype for host in hosts])
        self._box = Mailbox(self.world, self.exchange.codec, hosts)

    def step(self, replica: Replica, bring: Bring) -> StepResult:
        """One update, the letters that are here, and perhaps one more; see `Rule.step`."""
        step_alone(self, replica, bring)
        if self._box is not None:
            self._read_all(self._box)
            self.write(self._box)
            self.recorder.end("comm")
        replica.publish_parameters()
        self.recorder.end("calc")
        return StepResult(bring.samples, None, _known(bring), stop=False)

    def send(self, box: Mailbox, to: int, numbers: Sequence[float], vectors: list[Array]) -> None:
        """Write a letter; `vectors` become what arrives of them where that is not the same."""
        arrives = box.send(to, numbers, vectors)
        self.recorder.sent(box.format.bytes)
        if not box.lossless:
            vectors[:] = arrives

    def pick(self, box: Mailbox) -> int | None:
        """Another worker that still trains, each as likely; None: there is none."""
        rank = self.world.rank
        others = [r for r in range(self.world.size) if r != rank and r not in box.gone]
        return others[self._random.integers(len(others))] if others else None

    def _read_all(self, box: Mailbox) -> None:
        # With so many answers still here others have to wait for theirs; their next step comes.
        while not (self.answered and box.full()) and (letter := box.next()) is not None:
            self._read(letter)

    def _read(self, letter: Letter) -> None:
        assert self._box is not None
        with on_host(self._replica.parameters) as mine:
            self.read(self._box, letter, mine)

    def drain(self, what: str, *, leaving: bool = False) -> None:
        """Take in all letters, so that none is on its way; collective."""
        box = self._box
        if box is None:
            return
        meeting = self._open_roll(Bring(samples=0), leaving=leaving)
        begun = time.monotonic()
        # Others may still train: a worker that waits goes on reading, and answering.
        while not meeting.done():
            self._read_all(box)
            waited = time.monotonic() - begun
            if waited > self.world.timeout_seconds:
                break
            time.sleep(0 if waited < _YIELD_SECONDS else _NAP_SECONDS)
        self._close_roll(meeting, Bring(samples=0), what)
        box.drain(self._read, what, rounds=2 if self.answered else 1)
        self._replica.publish_parameters()

    @contextmanager
    def consensus(self, replica: Replica) -> Iterator[None]:
        """As `Rule.consensus`, of weights that no letter is missing from."""
        self.drain("the taking in of letters before a mean")
        with self._mean_inside(replica, replica.parameters, self.share()):
            yield

    def finish(self, replica: Replica) -> None:
        """As `Rule.finish`; tell the others not to write any more, and take in what they wrote."""
        if self._box is not None:
            what = "the taking in of letters at the end"
            self._box.say_goodbye()
            self.drain(what, leaving=True)
            self._box.close(what)
            self._box = None
        super().finish(replica)

    def state_dict(self) -> dict[str, Any]:
        """As `Rule.state_dict`, with the generator; no letter is on its way then."""
        self.drain("the taking in of letters before a checkpoint")
        return {**super().state_dict(), "random": self._random.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As `Rule.load_state_dict`."""
        super().load_state_dict(state)
        self._random.bit_generator.state = state["random"]

    def merge_state_dicts(self, states: Sequence[dict[str, Any]]) -> None:
        """As `Rule.merge_state_dicts`; all begin at the consensus, with new generators."""
        super().merge_state_dicts(states)
        self._random = own_stream(self.seed, self.world.rank, self.steps)


def _known(bring: Bring) -> float:
    return float("nan") if bring.loss is None else bring.loss
