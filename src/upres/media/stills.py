"""One picture of what a finished file shows. Knows nothing of tasks or models."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from upres.errors import InvalidInput
from upres.media.decode import SCALE_FLAGS
from upres.media.ffmpeg import FfmpegProcess
from upres.media.images import DAMAGE, read_image
from upres.media.probe import CONTAINERS, probe
from upres.tasks import MediaKind

JPEG_QUALITY = 85


def still(path: Path, kind: MediaKind, width: int, height: int) -> bytes:
    """The first frame of a file that Upres wrote, as JPEG of `width` x `height`. Raises InvalidInput, MediaFailed."""
    try:
        picture = _first_frame(path, width, height) if kind == "video" else Image.fromarray(read_image(probe(path)))
        jpeg = io.BytesIO()
        picture.convert("RGB").save(jpeg, "JPEG", quality=JPEG_QUALITY)
    except DAMAGE as error:
        raise _unreadable(path) from error
    return jpeg.getvalue()


def _first_frame(path: Path, width: int, height: int) -> Image.Image:
    pixels = np.empty((height, width, 3), np.uint8)
    arguments = [
        "-protocol_whitelist", "file", "-format_whitelist", CONTAINERS, "-threads", "1", "-i", f"file:{path}",
        "-map", "0:V:0", "-frames:v", "1", "-vf", f"scale=w={width}:h={height}:flags={SCALE_FLAGS}",
        "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1",
    ]  # fmt: skip
    with FfmpegProcess(arguments, doing=f"reading {path.name}", yields=True) as process:
        got = process.read_into(pixels.data.cast("B"))
        process.finish()
    if got != pixels.nbytes:
        raise _unreadable(path)
    return Image.fromarray(pixels)


def _unreadable(path: Path) -> InvalidInput:
    return InvalidInput(f"{path.name} has no frame that can be decoded", remedy="it was changed; submit the task again")
