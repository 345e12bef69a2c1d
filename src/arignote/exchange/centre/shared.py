"""A centre in memory that the workers of one host share: each does its visit itself.

No server, no message, no copy of the vector: a visit goes through worker and centre side by side,
in one pass (`at_once`), or in blocks that stay in the processor's cache. It reads two vectors and
writes two; a plain copy reads one and writes one. Regions are locked one by one and every worker
begins at another, so that those who come at the same time do not stand in each other's way.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from arignote.comm.base import World
from arignote.comm.shared_memory import SharedRows
from arignote.exchange.base import cut
from arignote.exchange.centre.base import Array, AtOnce, Centre, Give, MeetsCentre, Take, Visit

_BLOCK_ELEMENTS = 1 << 15
_REGION_ELEMENTS = 1 << 20
_WHAT = "the centre"


class SharedCentre(Centre):
    """Rows of shared memory; collective to make, zeroed.

    Args:
        elements, dtype: of the centre.
        rule: what a visit does.
    """

    def __init__(self, world: World, elements: int, dtype: torch.dtype, rule: MeetsCentre) -> None:
        self.elements, self.dtype = elements, dtype
        self._rule = rule
        self._rank = world.rank
        self._regions = cut(elements, max(1, elements // _REGION_ELEMENTS))
        self._memory = SharedRows(
            world, elements, dtype, rows=1 + rule.rows, locks=len(self._regions)
        )
        self._rows: list[Array] = [
            self._memory.row(number).numpy() for number in range(1 + rule.rows)
        ]
        self._count = SharedRows(world, 1, torch.int64, rows=1, locks=1)
        self._block = torch.empty(min(elements, _BLOCK_ELEMENTS), dtype=dtype).numpy()
        self._kept: Array | None = None
        self._seen = 0

    def visit(
        self,
        numbers: Sequence[float],
        give: Give,
        take: Take,
        what: str,
        *,
        payload: Array | None = None,
        at_once: AtOnce | None = None,
    ) -> Visit:
        """See `Centre.visit`; `payload` has no use here."""
        with self._count.locks.held(0, _WHAT):
            before = int(self._count.row(0)[0])
            self._count.row(0)[0] = before + 1
        staleness = before - self._seen
        self._seen = before + 1
        first = self._rank % len(self._regions)
        for number in (*range(first, len(self._regions)), *range(first)):
            region = self._regions[number]
            with self._memory.locks.held(number, _WHAT):
                if at_once is None or self._rule.rows or self._kept is not None:
                    self._visit(region, numbers, staleness, give, take)
                else:
                    at_once(region, self._rows[0][region])
        return Visit(staleness, 0)

    def _visit(
        self, region: slice, numbers: Sequence[float], staleness: int, give: Give, take: Take
    ) -> None:
        for start in range(region.start, region.stop, _BLOCK_ELEMENTS):
            place = slice(start, min(start + _BLOCK_ELEMENTS, region.stop))
            block = self._block[: place.stop - place.start]
            give(place, block)
            centre, *rows = (row[place] for row in self._rows)
            kept = None if self._kept is None else self._kept[place]
            self._rule.meet(block, centre, rows, kept, numbers, staleness, None)
            if kept is not None:
                kept[:] = block
            take(place, block)

    def read(self, row: int, out: torch.Tensor) -> None:
        """See `Centre.read`; region by region, so a visit may be half in it."""
        for number, region in enumerate(self._regions):
            with self._memory.locks.held(number, _WHAT):
                out[region].copy_(self._memory.row(row)[region])

    def write(self, row: int, values: torch.Tensor) -> None:
        """See `Centre.write`."""
        self._memory.row(row).copy_(values)

    def behind(self) -> int:
        """See `Centre.behind`."""
        return int(self._count.row(0)[0]) - self._seen

    def begin(self, given: torch.Tensor | None, behind: int) -> None:
        """See `Centre.begin`."""
        self._seen = int(self._count.row(0)[0]) - behind
        if self._rule.keeps and given is not None:
            self._kept = given.clone().numpy()

    def close(self) -> None:
        """See `Centre.close`."""
        self._memory.close()
        self._count.close()
