"""The images of one split, in shards that are mapped when they are first asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from arignote.data.pixels import Images
from arignote.data.shard_index import CHANNELS, ShardFile, SplitIndex, check_shard
from arignote.data.sharding import Indices
from arignote.data.stages import show
from arignote.data.windows import Windows
from arignote.errors import DataError


class StoredImages:
    """Images of size x size pixels."""

    def __init__(self, folder: Path, split: SplitIndex, size: int) -> None:
        """Look at the files' sizes; nothing is read.

        Raises:
            DataError: a shard is missing, or not as long as the index says.
        """
        for shard in split.shards:
            check_shard(folder, shard, size * size * CHANNELS)
        self._folder, self._shards, self._size = folder, split.shards, size
        counts = np.array([shard.images for shard in split.shards], np.int64)
        self._ends = np.cumsum(counts)
        self._starts = self._ends - counts
        self._files = [str(folder / shard.file) for shard in split.shards]
        self._maps: list[Images | None] = [None] * len(split.shards)

    def copy(self, indices: Indices, windows: Windows, out: Images) -> None:
        """Copy windows of the images `indices` (N,), inside them, to `out` (N, height, width, 3).

        Raises:
            DataError: a shard cannot be mapped.
        """
        height, width = out.shape[1:3]
        shards = np.searchsorted(self._ends, indices, side="right")
        places = indices - self._starts[shards]
        columns = (shards, places, windows.y, windows.x, windows.mirrored)
        for target, (shard, place, y, x, mirrored) in zip(
            out, zip(*(column.tolist() for column in columns), strict=True), strict=True
        ):
            # One that is cut, or whose storage is gone, kills who reads it, and must be named then.
            show(self._files[shard])
            source = self._images(shard)[place, y : y + height, x : x + width]
            if mirrored:
                # Channel by channel: NumPy's innermost loop then runs along a row. Of whole
                # pixels, backwards, it would run over three bytes at a time, which takes longer.
                for channel in range(CHANNELS):
                    target[..., channel] = source[:, ::-1, channel]
            else:
                target[:] = source
        show("")

    def image(self, index: int) -> Images:
        """All of image `index`, (size, size, 3), mapped: its file is shown until another is.

        Raises:
            DataError: its shard cannot be mapped.
        """
        shard = int(np.searchsorted(self._ends, index, side="right"))
        show(self._files[shard])
        mapped: Images = self._images(shard)[index - self._starts[shard]]
        return mapped

    def _images(self, number: int) -> Images:
        """The images (N, size, size, 3) of shard `number`, mapped."""
        images = self._maps[number]
        if images is None:
            images = self._maps[number] = self._map(self._shards[number])
        return images

    def _map(self, shard: ShardFile) -> Images:
        path, shape = self._folder / shard.file, (shard.images, self._size, self._size, CHANNELS)
        try:
            # A plain array: each slice of an np.memmap would run Python code.
            return np.asarray(np.memmap(path, np.uint8, "r", shape=shape))
        except (OSError, ValueError) as error:
            # NumPy's word for a file that is too short is a ValueError.
            reason = error.strerror if isinstance(error, OSError) else error
            raise DataError(
                f"{path} cannot be mapped ({reason}): was it removed or cut meanwhile?"
            ) from None
