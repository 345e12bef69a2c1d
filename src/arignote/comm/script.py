"""Threads that take turns in an order drawn from a seed, so that a test can replay it.

    worlds = thread_worlds(3, script=Script(seed=17))
    results = run_threads(worlds, work)

Of the threads in a script exactly one runs, the one that holds the baton. At every operation
of its world it hands the baton to one of them all, drawn from the seed; one that would wait
hands it on until what it waits for is there. So everything that the threads do, from the
first operation to the last, depends on the seed alone.

A thread in the script must not block outside of it (on a queue, in `Thread.join`) for what
another of its threads does: that one has no baton. A service thread comes in by `joined`, and
is waited for by `await_joined` and `await_left`. Whoever is not in the script goes on without.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")
Text = Callable[[], str]
"""Words that are put together only if somebody wants to read them."""

_JOIN_SECONDS = 20.0


class DeadlockError(RuntimeError):
    """No thread of a script can go on."""


def _closed_gate() -> threading.Lock:
    gate = threading.Lock()
    gate.acquire()
    return gate


@dataclass(eq=False)
class _Player:
    """A thread in the script."""

    worker: int | None
    """The rank, or None for one that joined."""
    name: str
    at: Text
    """What it does while it has not the baton, for the error."""
    gate: threading.Lock = field(default_factory=_closed_gate)
    """Released once whenever it is given the baton."""

    def order(self) -> tuple[bool, int, str]:
        """Workers by rank, then the others by name."""
        return self.worker is None, self.worker or 0, self.name


class Script:
    """Whose turn it is.

    Args:
        seed: of all draws, until `restart`.
        patience: handovers in a row that change nothing before it is a `DeadlockError`.
    """

    def __init__(self, seed: int, patience: int = 20_000) -> None:
        self._random = random.Random(seed)
        self._patience = patience
        self._changed = threading.Condition()
        self._players: dict[int, _Player] = {}
        """By the thread's number."""
        self._live: list[_Player] = []
        """The same in their order, which no accident of the system decides."""
        self._fresh: list[_Player] = []
        """Workers that have not run yet: the first turns go by rank."""
        self._ended: list[str] = []
        self._absent = 0
        self._idle = 0
        self._failure: str | None = None
        self._arrived, self._restarts = 0, 0

    def run(self, parts: Sequence[tuple[int, Callable[[], T]]]) -> list[T]:
        """Run each (rank, function) in a thread of the script; their results.

        All start in the order of the ranks, each with what it does before its first operation.
        Threads that joined and are still there afterwards sleep until the next run; after a
        failure they get a `DeadlockError`, and the script is of no more use.

        Raises:
            Exception: what the first that failed raised, not counting those that only
                waited for it in vain.
        """
        self._absent, self._ended, self._idle = len(parts), [], 0
        with ThreadPoolExecutor(len(parts)) as pool:
            futures = [pool.submit(self._play, rank, part) for rank, part in parts]
        errors = [error for future in futures if (error := future.exception()) is not None]
        if errors:
            self._break("a worker of the script failed")
            raise next((e for e in errors if not isinstance(e, DeadlockError)), errors[0])
        return [future.result() for future in futures]

    @contextmanager
    def joined(self, name: str) -> Iterator[None]:
        """The calling thread is in the script too, under a name that no other has."""
        me = self._enter(_Player(None, name, lambda: "to begin"))
        try:
            self._take_baton(me)
            yield
        finally:
            self._leave(me, "")

    def await_joined(self, name: str) -> None:
        """Keep the baton until the thread just started has joined: so no race decides when."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._is_live(name), _JOIN_SECONDS):
                raise RuntimeError(f"{name} did not join the script within {_JOIN_SECONDS:g} s")

    def await_left(self, name: str) -> None:
        """Hand the baton on until the thread of this `name` has left."""
        self.wait_until(lambda: not self._is_live(name), lambda: f"{name} did not leave the script")

    def plays(self) -> bool:
        """Whether the calling thread is in the script."""
        return threading.get_ident() in self._players

    def pause(self, at: Text) -> None:
        """Hand the baton on, come back when drawn; nothing for a thread outside the script."""
        me = self._players.get(threading.get_ident())
        if me is not None:
            self._hand_over(me, at)

    def wait_until(self, condition: Callable[[], bool], lost: Text) -> None:
        """Hand the baton on until `condition` holds; only for a thread in the script.

        `lost` says what is missing.

        Raises:
            DeadlockError: nobody can go on.
        """
        if condition():
            return
        me = self._players[threading.get_ident()]
        while not condition():
            self._hand_over(me, lambda: f"waits: {lost()}")
        self.progress()

    def progress(self) -> None:
        """Something changed that others may wait for."""
        self._idle = 0

    def choose(self, ranks: Sequence[int]) -> int:
        """One of `ranks`, drawn as the turns are."""
        return self._random.choice(ranks)

    def restart(self, seed: int) -> None:
        """Draw from `seed` from here on; for the thread that has the baton, or between runs."""
        self._random = random.Random(seed)
        self.progress()

    def restart_together(self, size: int, seed: int) -> None:
        """Wait until `size` threads have come here; they go on in an order of the seed only."""
        self.pause(lambda: "comes to a restart")
        self._arrived += 1
        if self._arrived < size:
            turn = self._restarts
            self.wait_until(lambda: self._restarts != turn, lambda: "not all came to a restart")
            return
        self._arrived = 0
        self._restarts += 1
        self.restart(seed)
        # Who came last is an accident of the draws before: it has no right to go first.
        self.pause(lambda: "has restarted the script")

    def _play(self, rank: int, part: Callable[[], T]) -> T:
        me = self._enter(_Player(rank, f"worker {rank}", lambda: "to begin"))
        how = ""
        try:
            self._take_baton(me)
            return part()
        except BaseException as error:
            how = f" by {type(error).__name__}"
            raise
        finally:
            self._leave(me, how)

    def _enter(self, me: _Player) -> _Player:
        with self._changed:
            self._check()
            if self.plays() or self._is_live(me.name):
                raise ValueError(f"this thread, or another {me.name}, is in the script already")
            self._players[threading.get_ident()] = me
            # A new list: whoever has the baton may be drawing from the old one.
            self._live = sorted([*self._live, me], key=_Player.order)
            self._changed.notify_all()
            if me.worker is not None:
                self._absent -= 1
                if not self._absent:
                    self._fresh = [player for player in self._live if player.worker is not None]
                    self._draw().gate.release()
        return me

    def _leave(self, me: _Player, how: str) -> None:
        with self._changed:
            del self._players[threading.get_ident()]
            self._live = [player for player in self._live if player is not me]
            self._ended.append(f"{me.name} has ended{how}")
            self.progress()
            # Without a worker the baton lies there until the next run.
            if self._failure is None and any(player.worker is not None for player in self._live):
                self._draw().gate.release()

    def _is_live(self, name: str) -> bool:
        return any(player.name == name for player in self._live)

    def _draw(self) -> _Player:
        return self._fresh.pop(0) if self._fresh else self._random.choice(self._live)

    def _hand_over(self, me: _Player, at: Text) -> None:
        me.at = at
        self._idle += 1
        if self._idle > self._patience and self._failure is None:
            self._break(self._standstill(), me)
        self._check()
        following = self._draw()
        if following is not me:
            following.gate.release()
            self._take_baton(me)

    def _take_baton(self, me: _Player) -> None:
        me.gate.acquire()
        self._check()

    def _check(self) -> None:
        if self._failure is not None:
            raise DeadlockError(self._failure)

    def _standstill(self) -> str:
        where = [f"{player.name} {player.at()}" for player in self._live]
        return f"nothing changed in {self._patience} handovers: " + "; ".join(where + self._ended)

    def _break(self, failure: str, me: _Player | None = None) -> None:
        """Let all threads run into a `DeadlockError`."""
        with self._changed:
            if self._failure is None:
                self._failure = failure
                for player in self._live:
                    if player is not me:
                        player.gate.release()
