"""A folder of images, read as if it were a video. Knows nothing of models or of what becomes of the frames."""

from __future__ import annotations

import dataclasses
from array import array
from collections.abc import Iterator
from fractions import Fraction
from types import TracebackType
from typing import Self

import numpy as np

from upres.errors import InvalidInput
from upres.media.decode import FrameReader, Reading
from upres.media.images import read_image
from upres.media.inspector import Refused, image_facts, image_format_of
from upres.media.probe import MAX_PIXELS, MediaInfo


def open_reader(info: MediaInfo, block: int, how: Reading) -> FrameReader | FolderReader:
    return FolderReader(info, block, how) if info.files else FrameReader(info, block, how)


class FolderReader:
    """What FrameReader is for a video file. A file that cannot be decoded ends the work: a sequence has no gaps."""

    def __init__(self, info: MediaInfo, block: int, how: Reading) -> None:
        self._info, self._block, self._how = info, block, how
        self.times = array("q")
        self.time_base: Fraction | None = 1 / info.fps
        self.frames_read = 0
        self.warnings: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def __iter__(self) -> Iterator[np.ndarray]:
        """`T H W C` as FrameReader's. Raises InvalidInput."""
        for start in range(self._how.first, len(self._info.files), self._block):
            numbers = range(start, min(start + self._block, len(self._info.files)))
            frames = np.stack([self._read(number) for number in numbers])
            self.times.extend(numbers)
            self.frames_read += len(numbers)
            yield frames

    def _read(self, number: int) -> np.ndarray:
        """Without alpha."""
        path = self._info.files[number]
        try:
            with path.open("rb") as file:
                image_format = image_format_of(file.read(64))
            if image_format is None:
                raise InvalidInput(f"{path.name} is no image any more", remedy="submit the folder again")
            facts = image_facts(str(path), image_format, MAX_PIXELS, decode=False)
        except (OSError, Refused) as error:
            raise InvalidInput(f"{path.name} cannot be read ({error})", remedy="export it again") from error
        same = ("format", "bit_depth", "has_alpha", "foreign_profile")
        info = dataclasses.replace(self._info, path=path, kind="image", **{name: facts[name] for name in same})
        return np.ascontiguousarray(read_image(info, deep=self._how.deep)[..., :3])
