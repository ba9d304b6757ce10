"""A before/after picture of one frame: the input enlarged by Lanczos on the left, the restored clip on the right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from upres.media.decode import FrameReader
from upres.media.probe import MediaInfo, probe

ZOOM = 2


def before_after(before: Path, after: Path, picture: Path) -> str:
    """Writes `picture` and says what both clips are. Raises ValueError if frames were lost."""
    old, new = probe(before), probe(after)
    if old.frames != new.frames or old.fps != new.fps:
        raise ValueError(f"{old.frames} frames at {old.fps} became {new.frames} at {new.fps}")
    middle = old.frames // 2
    size = (new.width, new.height)
    left = Image.fromarray(frame(old, middle)).resize(size, Image.Resampling.LANCZOS)
    right = Image.fromarray(frame(new, middle))
    box = (new.width // 4, new.height // 4, new.width * 3 // 4, new.height * 3 // 4)
    detail = [half.crop(box).resize((size[0] // 2 * ZOOM, size[1] // 2 * ZOOM), Image.Resampling.NEAREST)
              for half in (left, right)]  # fmt: skip
    sheet = Image.new("RGB", (2 * size[0] + 8, detail[0].height + 24), "white")
    for index, (half, label) in enumerate(zip(detail, ("before (Lanczos)", "after (Upres)"), strict=True)):
        sheet.paste(half, (index * (size[0] + 8), 24))
        ImageDraw.Draw(sheet).text((index * (size[0] + 8) + 6, 6), label, fill="black")
    sheet.save(picture)
    return (f"{old.width}x{old.height} -> {new.width}x{new.height}, {new.frames} frames at {new.fps} fps, "
            f"audio {list(new.audio)}")  # fmt: skip


def frame(info: MediaInfo, index: int) -> np.ndarray:
    with FrameReader(info) as reader:
        for block in reader:
            if index < len(block):
                return block[index].copy()
            index -= len(block)
    raise ValueError(f"{info.path.name} has no frame {index}")
