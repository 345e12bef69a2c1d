"""The feed of one worker, as the settings and its device want it."""

from __future__ import annotations

import torch

from arignote.config.settings import Settings
from arignote.data.base import Dataset
from arignote.data.byte_images import fed_dataset
from arignote.loading.pool import Pool
from arignote.loading.process import ServerProcess
from arignote.loading.server import describe
from arignote.loading.shapes import shapes_of
from arignote.trainer.copied_feed import CopiedFeed
from arignote.trainer.device_copy import StreamCopier
from arignote.trainer.feed import Feed, LoadedFeed, OwnFeed, loader_count


def open_feed(
    settings: Settings,
    dataset: Dataset,
    server: ServerProcess | None,
    *,
    own_data: bool,
    samples: int,
    device: torch.device,
    worker: int,
) -> Feed:
    """Loaders where they are wanted; what they make is copied to a `device` that is no CPU.

    Args:
        server: begun if the settings want loaders.
        own_data: the model's `data` opens the data set: then it has loaders only when told to.
        samples: the most that a batch has.
        worker: its rank.

    Raises:
        UserError: see `fed_dataset`.
    """
    fed = fed_dataset(dataset, settings)
    if server is None:
        return OwnFeed(fed, settings.run.seed)
    if own_data and settings.loading.loaders is None:
        server.close()
        return OwnFeed(fed, settings.run.seed)
    pool = Pool(
        server,
        describe(settings, dataset, own_data=own_data),
        shapes_of(fed),
        loaders=loader_count(settings),
        samples=samples,
        ahead_bytes=settings.loading.ahead_mib * 2**20,
        timeout_seconds=settings.loading.timeout_seconds,
        seed=settings.run.seed,
        worker=worker,
    )
    if device.type == "cpu":
        return LoadedFeed(pool)
    return CopiedFeed(pool, StreamCopier(device, pool.memory))
