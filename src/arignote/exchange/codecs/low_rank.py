"""The loops of powersgd on one matrix, in an order that no machine changes.

    absorb        D <- w g + (D - P low_Q^T),  P <- D Q
    project       Q <- D^T P
    expand        g <- P Q^T
    orthogonalise columns of P

D, g: n x m; P: n x r; Q and low_Q are kept as their transposes, r x m, so that all loops run along
rows. Four of the r are taken at a time: for rank 4 (and below) every pass reads and writes a
matrix once. Local sums differ from a BLAS's in the last place; g has the same bits on unlike
machines, which is why it is not left to one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from arignote.exchange.jit import jit

LANES = 64
"""Partial sums of a scalar product."""
COLUMNS = 2048
"""Columns of Q that are added up at a time: they stay in the first cache."""
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
def replace(
    row: Floats, weight: np.float32, gradient: Floats, weights: Any, rows: Any, low: Floats
) -> None:
    """row <- weight * gradient + (row - weighted sum of four rows (and low, unless empty))."""
    a, b, c, d = weights
    w, x, y, z = rows
    if low.size == 0:
        for j in range(row.size):
            part = ((a * w[j] + b * x[j]) + c * y[j]) + d * z[j]
            row[j] = weight * gradient[j] + (row[j] - part)
    else:
        for j in range(row.size):
            part = low[j] + (((a * w[j] + b * x[j]) + c * y[j]) + d * z[j])
            row[j] = weight * gradient[j] + (row[j] - part)


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
    m, rank = d.shape[1], q.shape[0]
    last = (rank - 1) // 4 * 4
    low = np.empty(m if last else 0, np.float32)
    sums = np.empty((last + 4, LANES), np.float32)
    for i in range(d.shape[0]):
        for k in range(0, last, 4):
            combine(four(p[i], k), four_rows(low_q, k, 0, m), low, k == 0)
        replace(d[i], weight, g[i], four(p[i], last), four_rows(low_q, last, 0, m), low)
        sums[:] = 0
        for k in range(0, rank, 4):
            products(d[i], four_rows(q, k, 0, m), sums[k : k + 4])
        for k in range(rank):
            total = np.float32(0)
            for lane in range(LANES):
                total += sums[k, lane]
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
