"""Pools of loaders that are closed when a test is over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from arignote.config.load import resolve
from arignote.config.settings import Settings
from arignote.data.base import Dataset
from arignote.data.open import open_data
from arignote.loading.pool import Pool
from arignote.loading.process import ServerProcess
from arignote.loading.server import describe
from arignote.loading.shapes import shapes_of


def settings_of(spec: str, augment: str = "none") -> Settings:
    """As a run's."""
    return resolve([("", {"run": {"data": spec}, "train": {"augment": augment}})])


@pytest.fixture
def open_pool() -> Iterator[Callable[..., tuple[Dataset, Pool]]]:
    """open_pool("idx:DIR", augment="none", loaders=2, samples=8, ...): the data, and its pool."""
    pools = []

    def start(
        spec: str, augment: str = "none", server: ServerProcess | None = None, **given: Any
    ) -> tuple[Dataset, Pool]:
        settings = settings_of(spec, augment)
        data = open_data(spec, augment)
        options = {"loaders": 2, "samples": 8, "ahead_bytes": 2**20, "timeout_seconds": 60.0}
        pool = Pool(
            server or ServerProcess(),
            describe(settings, data, own_data=False),
            shapes_of(data),
            seed=5,
            worker=1,
            **{**options, **given},
        )
        pools.append(pool)
        return data, pool

    yield start
    for pool in pools:
        pool.close()
