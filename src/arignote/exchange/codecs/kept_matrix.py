"""What powersgd keeps of a tensor from round to round: its error, and two thin factors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from arignote.exchange.codecs.low_rank import absorb, expand, orthogonalise, project
from arignote.exchange.exchange import Shapes


@dataclass(frozen=True)
class Matrix:
    """A tensor that is compressed: n rows x m columns from `start` of a vector on."""

    key: str
    """`vector.start.stop`, as vectors are called in an exchange's state."""
    seed: int
    start: int
    rows: int
    columns: int
    rank: int

    @property
    def stop(self) -> int:
        """Where it ends in the vector."""
        return self.start + self.rows * self.columns

    def first_q(self) -> torch.Tensor:
        """The same random numbers on all workers, (r, m)."""
        generator = torch.Generator().manual_seed(self.seed)
        return torch.randn(self.rank, self.columns, generator=generator)


class KeptMatrix:
    """One matrix from round to round, on the device of its vector."""

    def __init__(self, matrix: Matrix, device: torch.device) -> None:
        self.matrix = matrix
        self.compiled = device.type == "cpu"
        self.d = torch.zeros(matrix.rows, matrix.columns, device=device)
        """The error, with P Q^T of the last round still in it."""
        self.p = torch.zeros(matrix.rows, matrix.rank, device=device)
        self.low_q = torch.zeros(matrix.rank, matrix.columns, device=device)
        self.q = matrix.first_q().to(device)
        """With which the next round begins."""

    def absorb(self, gradient: torch.Tensor, weight: float) -> None:
        """D, and this worker's P."""
        if self.compiled:
            factors = self.p.numpy(), self.low_q.numpy(), self.q.numpy()
            absorb(gradient.numpy(), np.float32(weight), self.d.numpy(), *factors)
        else:
            self.settle()
            torch.mm(self.d.add_(gradient, alpha=weight), self.q.t(), out=self.p)

    def project(self) -> bool:
        """With the mean of P: orthogonalise it, and this worker's Q; False: P is not finite."""
        p = self.p.cpu()
        finite = bool(orthogonalise(p.numpy()))
        self.p.copy_(p)
        if not finite:
            self.low_q.zero_()
        elif self.compiled:
            project(self.d.numpy(), p.numpy(), self.low_q.numpy())
        else:
            torch.mm(self.p.t(), self.d, out=self.low_q)
        return finite

    def warm(self) -> bool:
        """With the mean of Q: the one of the next round; False: it is not finite."""
        largest = self.low_q.abs().amax(1, keepdim=True)
        if not bool(torch.isfinite(largest).all()):
            return False
        torch.div(self.low_q, largest, out=self.q)
        empty = (largest == 0).flatten()
        if bool(empty.any()):
            self.q[empty] = self.matrix.first_q().to(self.q.device)[empty]
        return True

    def expand(self, out: torch.Tensor) -> None:
        """out <- P Q^T."""
        if self.compiled:
            expand(self.p.numpy(), self.low_q.numpy(), out.numpy())
        else:
            torch.mm(self.p, self.low_q, out=out)

    def settle(self) -> None:
        """Take P Q^T out of D, which then is the error itself; changes no result."""
        low = torch.empty_like(self.d)
        self.expand(low)
        self.d.sub_(low)
        self.p.zero_()

    def restart(self) -> None:
        """Forget everything."""
        for tensor in (self.d, self.p, self.low_q):
            tensor.zero_()
        self.q.copy_(self.matrix.first_q())


def matrices_of(shapes: Shapes, rank: int) -> list[list[Matrix]]:
    """The tensors of each vector that rank (n + m) numbers make smaller."""
    found: list[list[Matrix]] = []
    seed = 0
    for number, members in enumerate(shapes):
        found.append([])
        start = 0
        for shape in members:
            rows = shape[0] if len(shape) > 1 else 1
            elements = shape.numel()
            columns = elements // rows if elements else 0
            if rank * (rows + columns) < elements:
                key = f"{number}.{start}.{start + elements}"
                found[-1].append(Matrix(key, seed, start, rows, columns, rank))
            start += elements
            seed += 1
    return found
