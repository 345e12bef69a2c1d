"""powersgd: every layer's matrix as the product of two thin ones; what is lost is sent later.

    D = w g + e                           g as an n x m matrix, e: error of the last rounds
    P <- mean(D Q),  P <- orthonormal columns
    Q <- mean(D^T P)
    g <- P Q^T,  e <- D - P Q^T

r = rank (columns of P and Q), w = weight. A round sends r (n + m) numbers instead of n m; biases
and matrices that would not shrink go with P as they are. Q begins the next round, so that the
rounds together are a power iteration (Vogels et al. 2019, arXiv 1905.13727, algorithms 1 and 2).
We differ: Q is scaled to a largest element of 1 before it is used again (the same span, and no
underflow); a column of P that depends on those before it becomes zero, and its Q starts anew;
and not e is stored but D, from which the next round takes P Q^T away while it adds g: a round
reads and writes a quarter less memory.

NaN or infinity in a matrix makes all of it NaN on all workers, once: e and Q start again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from arignote.comm.base import World
from arignote.config.exchange_options import CodecOptions, PowerSGDOptions
from arignote.errors import UserError
from arignote.exchange.base import Codec, Route, State
from arignote.exchange.codecs.fp32 import FP32
from arignote.exchange.codecs.kept_matrix import KeptMatrix, Matrix, matrices_of
from arignote.exchange.exchange import Exchange, Shapes


@dataclass
class Part:
    """What of a vector, or of a part of it that ends at borders of tensors, is sent how."""

    matrices: list[tuple[Matrix, slice, torch.Tensor, torch.Tensor]]
    """Each with its place in the part, its P in `first` and its Q in `second`."""
    plain: list[tuple[slice, torch.Tensor]]
    """What is not compressed: its place in the part, and in `first`."""
    first: torch.Tensor
    second: torch.Tensor


class PowerSGDExchange(Exchange):
    """Two means over the route a round: of all P with what is not compressed, and of all Q."""

    def __init__(self, route: Route, codec: Codec) -> None:
        super().__init__(route, codec)
        self._matrices: list[list[Matrix]] = []
        self._parts: dict[str, Part] = {}
        self._kept: dict[str, KeptMatrix] = {}
        self._loaded: dict[str, Any] = {}
        """States of matrices whose first round is still to come."""

    def prepare(
        self,
        vectors: Sequence[torch.Tensor],
        shapes: Shapes,
        *,
        shards: bool = False,
        rounds: bool = True,
    ) -> None:
        """As `Exchange.prepare`.

        Raises:
            UserError: there is no matrix that would become smaller.
        """
        super().prepare(vectors, shapes)
        options = self.codec.options
        assert isinstance(options, PowerSGDOptions)
        self._parts.clear()
        self._matrices[:] = matrices_of(shapes, options.rank)
        found = [matrix for matrices in self._matrices for matrix in matrices]
        tensors = sum(len(members) for members in shapes)
        if not found:
            raise UserError(
                f"{self.name} makes none of the {tensors} tensors smaller: take a lower rank, or "
                "a codec that suits small layers, as asa:fp16"
            )
        saved = sum(m.stop - m.start - m.rank * (m.rows + m.columns) for m in found)
        elements = sum(vector.numel() for vector in vectors)
        self.report = {
            "compressed_tensors": len(found),
            "tensors": tensors,
            "elements": elements,
            "sent_elements": elements - saved,
        }

    def mean_(self, vector: torch.Tensor, *, weight: float | None = None, what: str) -> int:
        """As `Exchange.mean_`, of a prepared vector or of a part that ends at tensors' borders.

        Others are averaged without loss.
        """
        key = self._key(vector)
        if key.startswith("other") or not vector.numel():
            return self.lossless().mean_(vector, weight=weight, what=what)
        if self.route.world.size == 1:
            self._pay_back(vector, key)
            return 0
        if key not in self._parts:
            self._parts[key] = self._part(vector, key)
        carried = vector.float()
        sent = self._round(carried, self._parts[key], weight, what)
        if carried is not vector:
            vector.copy_(carried)
        return sent

    def _round(self, vector: torch.Tensor, part: Part, weight: float | None, what: str) -> int:
        kept = [self._of(matrix, vector.device) for matrix, *_ in part.matrices]
        shaped = [vector[place].view(m.rows, m.columns) for m, place, *_ in part.matrices]
        for one, gradient, (_, _, p, _) in zip(kept, shaped, part.matrices, strict=True):
            one.absorb(gradient, 1.0 if weight is None else weight)
            p.copy_(one.p)
        for place, flat in part.plain:
            flat.copy_(vector[place])
            if weight is not None:
                flat.mul_(weight)
        sent = self._mean(part.first, what)
        for place, flat in part.plain:
            vector[place] = flat
        if not part.matrices:
            return sent
        finite = []
        for one, (_, _, p, q) in zip(kept, part.matrices, strict=True):
            one.p.copy_(p)
            finite.append(one.project())
            q.copy_(one.low_q)
        sent += self._mean(part.second, what)
        for one, gradient, (_, _, _, q), good in zip(
            kept, shaped, part.matrices, finite, strict=True
        ):
            one.low_q.copy_(q)
            if good and one.warm():
                one.expand(gradient)
            else:
                gradient.fill_(torch.nan)
                one.restart()
        return sent

    def _mean(self, flat: torch.Tensor, what: str) -> int:
        if self.route.needs_meeting:
            # Others may read this memory in place: not before it is filled.
            self.route.world.meet([], what)
        nothing = State(torch.zeros(0, 0), torch.zeros(0, 0))
        return self.route.mean_(flat, FP32(CodecOptions()), nothing, what)

    def _part(self, vector: torch.Tensor, key: str) -> Part:
        """How the part called `key` is sent; collective, for its memory is the route's."""
        number, begin, end = (int(number) for number in key.split("."))
        inside = [m for m in self._matrices[number] if m.start >= begin and m.stop <= end]
        borders = [begin, *(border for m in inside for border in (m.start, m.stop)), end]
        pairs = zip(borders[::2], borders[1::2], strict=True)
        plain = [slice(a - begin, b - begin) for a, b in pairs if b > a]
        device = vector.device
        if device.type not in self.route.devices:
            device = torch.device("cpu")
        ps = sum(m.rows * m.rank for m in inside)
        rest = sum(place.stop - place.start for place in plain)
        first = self.route.allocate(ps + rest, torch.float32, device)
        qs = sum(m.columns * m.rank for m in inside)
        second = self.route.allocate(qs, torch.float32, device)
        part = Part([], [], first, second)
        for m in inside:
            p, first = first[: m.rows * m.rank], first[m.rows * m.rank :]
            q, second = second[: m.columns * m.rank], second[m.columns * m.rank :]
            place = slice(m.start - begin, m.stop - begin)
            part.matrices.append((m, place, p.view(m.rows, -1), q.view(m.rank, -1)))
        for place in plain:
            flat, first = first[: place.stop - place.start], first[place.stop - place.start :]
            part.plain.append((place, flat))
        return part

    def _of(self, matrix: Matrix, device: torch.device) -> KeptMatrix:
        """What is kept of `matrix`."""
        if matrix.key not in self._kept:
            kept = self._kept[matrix.key] = KeptMatrix(matrix, device)
            loaded = self._loaded.pop(matrix.key, None)
            if loaded is not None:
                kept.d.copy_(loaded["error"])
                if loaded["q"].shape == kept.q.shape:
                    kept.q.copy_(loaded["q"])
        return self._kept[matrix.key]

    def _pay_back(self, vector: torch.Tensor, key: str) -> None:
        """A worker alone loses nothing: it only adds what a run of several still owes."""
        number, begin, end = (int(number) for number in key.split("."))
        for m in self._matrices[number]:
            if m.start >= begin and m.stop <= end and m.key in self._loaded:
                error = self._loaded.pop(m.key)["error"]
                vector[m.start - begin : m.stop - begin] += error.flatten().to(vector.device)

    def twin(self, world: World) -> Exchange:
        """As `Exchange.twin`; with memory of its own for what is sent."""
        other = super().twin(world)
        assert isinstance(other, PowerSGDExchange)
        other._matrices, other._kept, other._loaded = self._matrices, self._kept, self._loaded
        return other

    def state_dict(self) -> dict[str, Any]:
        """The error and the next Q of every matrix."""
        state = dict(self._loaded)
        for key, kept in self._kept.items():
            kept.settle()
            state[key] = {"error": kept.d, "q": kept.q}
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As `Exchange.load_state_dict`; after another rank's, Q starts anew."""
        self._kept.clear()
        self._loaded.clear()
        self._loaded.update(state)

    def merge_state_dicts(self, states: Sequence[dict[str, Any]]) -> None:
        """As `Exchange.merge_state_dicts`: everyone's error is the mean of all there were."""
        merged = {}
        for key, fields in states[0].items():
            errors = torch.stack([state[key]["error"].cpu() for state in states])
            merged[key] = {"error": errors.mean(0), "q": fields["q"]}
        self.load_state_dict(merged)


class PowerSGD(FP32):
    """What is sent of the matrices: small ones, in full precision."""

    name = "powersgd"
    lossless = False
    exchange = PowerSGDExchange
