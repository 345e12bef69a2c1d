"""What the rules with a centre have in common: workers step alone, and visit it when it is due."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch

from arignote.comm.crew import Crew
from arignote.config.exchange_options import CodecOptions
from arignote.config.rule_options import OPTIONS
from arignote.exchange.base import Codec
from arignote.exchange.centre.base import Array, AtOnce, Centre, Give, MeetsCentre, Take, Visit
from arignote.exchange.centre.open import open_centres, serve_centres
from arignote.frameworks.base import Replica
from arignote.registry import CODECS, RULES
from arignote.rules.alone import note_bytes, step_alone
from arignote.rules.base import Bring, Rule, StepResult


class Visitor(Rule):
    """A rule with a centre; a member says what a visit is."""

    name: ClassVar[str]
    """In the registry: servers load the rule by it."""
    optimizer_is_local = True
    weights_are_local = True
    one_validates = True
    averages = False

    last_visit: Visit | None = None
    """What the last one came to."""
    _centres: Sequence[Centre] = ()

    @staticmethod
    @abstractmethod
    def meets(options: Any) -> MeetsCentre:
        """What a visit does where the centre is."""

    @abstractmethod
    def visit(self, number: int, vector: torch.Tensor, bring: Bring) -> None:
        """Make a visit (`make_visit`) for parameter vector `number`.

        Args:
            vector: it, or a copy that the centre can take; what it is after goes back.
        """

    @property
    def way(self) -> str:
        """See `Rule.way`."""
        if self.world.size == 1:
            return super().way
        if not self.crew.servers and self.crew.one_host:
            return "a centre in shared memory"
        count = self.crew.servers
        where = "worker 0" if not count else "a server" if count == 1 else f"{count} servers"
        return f"visits to {where} in {self.exchange.codec_name}"

    def update(self, replica: Replica, bring: Bring) -> None:
        """The step before it."""
        step_alone(self, replica, bring)

    def start(self, replica: Replica) -> None:
        """As `Rule.start`, and open the centre with the initial weights."""
        super().start(replica)
        if self.world.size == 1:
            self.remarks.append(
                f"{self.name} with one worker is plain SGD: there is nobody to exchange with"
            )
        else:
            hosts = [self._host(vector) for vector in replica.parameters]
            described = {"name": self.name, "options": self.options.model_dump()}
            rule, codec = self.meets(self.options), self.exchange.codec
            self._centres = open_centres(self.crew, hosts, described, rule, codec)
        self.adopt(replica)

    def adopt(self, replica: Replica) -> None:
        """See `Rule.adopt`: they are the centre."""
        if self._centres:
            hosts = [self._host(vector) for vector in replica.parameters]
            self._write([[host] for host in hosts])
            self._begin(hosts, 0)

    @staticmethod
    def _host(vector: torch.Tensor) -> torch.Tensor:
        """`vector` itself where a centre can take it, else a copy that it can."""
        wide = vector.dtype in (torch.float32, torch.float64)
        return vector.detach().to("cpu", vector.dtype if wide else torch.float32)

    def _write(self, rows: Sequence[Sequence[torch.Tensor]]) -> None:
        """Worker 0 sets the centres, and all wait for it."""
        if self.world.rank == 0:
            for centre, values in zip(self._centres, rows, strict=True):
                for row, vector in enumerate(values):
                    centre.write(row, vector)
        self.world.meet([], "the setting of the centre")

    def _begin(self, given: Sequence[torch.Tensor | None], behind: int) -> None:
        for centre, vector in zip(self._centres, given, strict=True):
            centre.begin(vector, behind)
        self.world.meet([], "the setting of the centre")

    def step(self, replica: Replica, bring: Bring) -> StepResult:
        """One update, and a visit where one is due; see `Rule.step`."""
        self.update(replica, bring)
        if self._centres and self.steps % self.options.period == 0:  # type: ignore[attr-defined]
            for number, vector in enumerate(replica.parameters):
                host = self._host(vector)
                self.visit(number, host, bring)
                if host.data_ptr() != vector.data_ptr():
                    vector.copy_(host)
            note_bytes(self.recorder, 0)
        replica.publish_parameters()
        self.recorder.end("calc")
        return StepResult(bring.samples, None, _known(bring), stop=False)

    def make_visit(
        self,
        number: int,
        numbers: Sequence[float],
        give: Give,
        take: Take,
        *,
        payload: Array | None = None,
        at_once: AtOnce | None = None,
    ) -> None:
        """Visit (`Centre.visit`), and record what it came to."""
        visit = self._centres[number].visit(
            numbers,
            give,
            take,
            f"the visit of step {self.steps}",
            payload=payload,
            at_once=at_once,
        )
        self.last_visit = visit
        self.recorder.sent(visit.wire_bytes)
        self.recorder.note("staleness", visit.staleness)
        if visit.server_load is not None:
            self.recorder.note("server_load", visit.server_load)

    @contextmanager
    def consensus(self, replica: Replica) -> Iterator[None]:
        """Inside, the replica holds the centre."""
        own = [vector.clone() for vector in replica.parameters]
        self._read_into(replica)
        try:
            with self._mean_inside(replica, ()):
                yield
        finally:
            for vector, kept in zip(replica.parameters, own, strict=True):
                vector.copy_(kept)
            replica.publish_parameters()

    def _read_into(self, replica: Replica) -> None:
        """The centre as it is when all are here and none visits."""
        with self._none_visits():
            for centre, vector in zip(self._centres, replica.parameters, strict=False):
                host = self._host(vector)
                centre.read(0, host)
                vector.copy_(host)
        replica.publish_parameters()

    @contextmanager
    def _none_visits(self) -> Iterator[None]:
        """All workers are in the block at the same time; collective."""
        self.world.meet([], "the reading of the centre")
        yield
        self.world.meet([], "the reading of the centre")

    def finish(self, replica: Replica) -> None:
        """As `Rule.finish`, with the centre's weights for good, and leave the servers."""
        self._read_into(replica)
        super().finish(replica)
        for centre in self._centres:
            centre.close()
        self._centres = ()

    def state_dict(self) -> dict[str, Any]:
        """As `Rule.state_dict`; worker 0 saves the centre."""
        state = super().state_dict()
        with self._none_visits():
            if self._centres:
                state["behind"] = self._centres[0].behind()
            if self.world.rank == 0:
                state["rows"] = [self._rows(centre) for centre in self._centres]
        return state

    def _rows(self, centre: Centre) -> list[torch.Tensor]:
        rows = []
        for number in range(1 + self.meets(self.options).rows):
            rows.append(torch.empty(centre.elements, dtype=centre.dtype))
            centre.read(number, rows[-1])
        return rows

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As `Rule.load_state_dict`; worker 0 sets the centre."""
        super().load_state_dict(state)
        if self._centres:
            self._write(state.get("rows", ()))
            self._begin(self.given(state), int(state["behind"]))

    def merge_state_dicts(self, states: Sequence[dict[str, Any]]) -> None:
        """As `Rule.merge_state_dicts`; all workers begin at the centre."""
        super().merge_state_dicts(states)
        if self._centres and states[0]["rows"]:
            self._write(states[0]["rows"])
            self._begin([rows[0] for rows in states[0]["rows"]], 0)

    def given(self, state: dict[str, Any]) -> Sequence[torch.Tensor | None]:
        """What this worker was last given, of a saved state; None where no visit asks for it."""
        return [None] * len(self._centres)


def serve(crew: Crew) -> None:
    """A server's whole work; collective."""

    def load(described: Any, codec: str) -> tuple[MeetsCentre, Codec]:
        rule = RULES.load(described["name"])
        options = OPTIONS[described["name"]](**described["options"])
        return rule.meets(options), CODECS.load(codec)(CodecOptions())

    serve_centres(crew, load)


def _known(bring: Bring) -> float:
    return float("nan") if bring.loss is None else bring.loss
