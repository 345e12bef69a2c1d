"""powersgd: every layer's matrix as the product of two thin ones; what is lost is sent later.

    D = w g + e                           g as an n x m matrix, e: error of the last rounds
    P <- mean(D Q);  P <- orthonormal columns
    Q <- mean(D^T P)
    g <- P Q^T,  e <- D - P Q^T

r = rank (columns of P and Q), w = weight. A round sends r (n + m) numbers instead of n m; biases
and matrices that would not shrink go with P as they are. Q begins the next round, so that the
rounds together are a power iteration (Vogels et al. 2019, arXiv 1905.13727, algorithms 1 and 2).
We differ: Q is scaled to a largest element of 1 before it is used again (the same span, and no
underflow); a column of P that depends on those before it becomes zero, and its Q starts anew.

NaN or infinity in a matrix makes all of it NaN on all workers, once: e and Q start again.

Memory is read and written as seldom as can be: e is not stored but D, from which the next round
takes P Q^T away while it adds g. On the CPU the order of all sums is fixed, so that P Q^T has
the same bits on unlike machines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from arignote.comm.base import World
from arignote.config.exchange_options import CodecOptions, PowerSGDOptions
from arignote.errors import UserError
from arignote.exchange.base import Route, State
from arignote.exchange.codecs.fp32 import FP32
from arignote.exchange.exchange import Exchange, Shapes
from arignote.exchange.jit import jit

ROWS, COLUMNS, LANES = 4, 2048, 32
"""A tile of a matrix that is worked on at once, and partial sums of a scalar product."""
DEPENDENT = 1e-14
"""Part of a column's squared length that must be left when those before it are taken out."""
Floats = npt.NDArray[np.float32]


@jit
def four(row: Floats, k: int) -> Any:
    """row[k : k + 4], zeros where it ends."""
    zero = np.float32(0)
    return (
        row[k],
        row[k + 1] if k + 1 < row.size else zero,
        row[k + 2] if k + 2 < row.size else zero,
        row[k + 3] if k + 3 < row.size else zero,
    )


@jit
def four_rows(matrix: Floats, k: int, start: int, stop: int) -> Any:
    """matrix[k : k + 4, start : stop], the last row again where it ends."""
    last = matrix.shape[0] - 1
    return (
        matrix[k, start:stop],
        matrix[min(k + 1, last), start:stop],
        matrix[min(k + 2, last), start:stop],
        matrix[min(k + 3, last), start:stop],
    )


@jit
def combine(weights: Any, rows: Any, out: Floats, fresh: bool) -> None:
    """out <- the weighted sum of four rows (and, unless `fresh`, out)."""
    a, b, c, d = weights
    w, x, y, z = rows
    if fresh:
        for j in range(out.size):
            out[j] = ((a * w[j] + b * x[j]) + c * y[j]) + d * z[j]
    else:
        for j in range(out.size):
            out[j] += ((a * w[j] + b * x[j]) + c * y[j]) + d * z[j]


@jit
def products(row: Floats, others: Any, sums: Floats) -> None:
    """sums[i] <- sums[i] + row * others[i], in lanes; shape (4, LANES)."""
    w, x, y, z = others
    a, b, c, d = sums[0], sums[1], sums[2], sums[3]
    full = row.size // LANES * LANES
    for start in range(0, full, LANES):
        for lane in range(LANES):
            j = start + lane
            value = row[j]
            a[lane] += value * w[j]
            b[lane] += value * x[j]
            c[lane] += value * y[j]
            d[lane] += value * z[j]
    for j in range(full, row.size):
        a[j - full] += row[j] * w[j]
        b[j - full] += row[j] * x[j]
        c[j - full] += row[j] * y[j]
        d[j - full] += row[j] * z[j]


@jit
def absorb(g: Floats, weight: np.float32, d: Floats, p: Floats, low_q: Floats, q: Floats) -> None:
    """D <- w g + (D - P low_Q^T), P <- D Q; low_q and q: (r, m), p: (n, r)."""
    n, m = d.shape
    rank = q.shape[0]
    low = np.empty(COLUMNS, np.float32)
    sums = np.empty((ROWS, -(-rank // 4), 4, LANES), np.float32)
    for top in range(0, n, ROWS):
        bottom = min(n, top + ROWS)
        sums[:] = 0
        for start in range(0, m, COLUMNS):
            stop = min(m, start + COLUMNS)
            for i in range(top, bottom):
                part = low[: stop - start]
                for k in range(0, rank, 4):
                    combine(four(p[i], k), four_rows(low_q, k, start, stop), part, k == 0)
                row, gradient = d[i, start:stop], g[i, start:stop]
                for j in range(row.size):
                    row[j] = weight * gradient[j] + (row[j] - part[j])
                for k in range(0, rank, 4):
                    products(row, four_rows(q, k, start, stop), sums[i - top, k // 4])
        for i in range(top, bottom):
            for k in range(rank):
                total = np.float32(0)
                for lane in range(LANES):
                    total += sums[i - top, k // 4, k % 4, lane]
                p[i, k] = total


@jit
def project(d: Floats, p: Floats, q: Floats) -> None:
    """Q <- D^T P; p: (n, r), q: (r, m)."""
    n, m = d.shape
    columns = np.ascontiguousarray(p.T)
    for top in range(0, n, 4):
        for start in range(0, m, COLUMNS):
            stop = min(m, start + COLUMNS)
            rows = four_rows(d, top, start, stop)
            for k in range(q.shape[0]):
                combine(four(columns[k], top), rows, q[k, start:stop], top == 0)


@jit
def expand(p: Floats, q: Floats, out: Floats) -> None:
    """out <- P Q^T; p: (n, r), q: (r, m)."""
    for i in range(p.shape[0]):
        for k in range(0, q.shape[0], 4):
            combine(four(p[i], k), four_rows(q, k, 0, q.shape[1]), out[i], k == 0)


@jit
def orthogonalise(p: Floats) -> bool:
    """Make the columns of p (n, r) orthonormal or zero, from left to right; False: not finite.

    Gram-Schmidt in float64, each column twice.
    """
    n, rank = p.shape
    wide = p.astype(np.float64)
    shares = np.empty(rank)
    for k in range(rank):
        before = 0.0
        for i in range(n):
            before += wide[i, k] * wide[i, k]
        if not np.isfinite(before):
            return False
        for _ in range(2):
            shares[:] = 0
            for i in range(n):
                for h in range(k):
                    shares[h] += wide[i, h] * wide[i, k]
            for i in range(n):
                for h in range(k):
                    wide[i, k] -= shares[h] * wide[i, h]
        after = 0.0
        for i in range(n):
            after += wide[i, k] * wide[i, k]
        factor = 1 / np.sqrt(after) if after > DEPENDENT * before else 0.0
        for i in range(n):
            wide[i, k] *= factor
    p[:] = wide
    return True
