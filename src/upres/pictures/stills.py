"""Single frames of a file as Pillow images, in the colours the restoring pipeline sees. Knows nothing of layout."""

from __future__ import annotations

from PIL import Image

from upres.errors import FileMissing, InvalidInput, MediaFailed
from upres.media.decode import Reading, to_rgb_filter
from upres.media.ffmpeg import FfmpegProcess
from upres.media.folder import open_reader
from upres.media.images import read_image
from upres.media.probe import CONTAINERS, MAX_PIXELS, MediaInfo

THREADS = 2  # one frame gains little from more


def still(info: MediaInfo, at_s: float, *, exact: bool = True) -> Image.Image:
    """The frame shown `at_s` seconds after the start, RGB, of MediaInfo's size; of an image, the image, RGBA if it has
    transparency.

    Not exact: the key frame before it, which costs no decoding of the frames between. Raises FileMissing where the file
    is gone since it was probed, InvalidInput, MediaFailed.
    """
    try:
        return _still(info, at_s, exact)
    except (InvalidInput, MediaFailed) as error:
        if info.path.exists():
            raise
        raise FileMissing(f"{info.path.name} is gone", remedy="submit it again") from error


def _still(info: MediaInfo, at_s: float, exact: bool) -> Image.Image:
    if info.kind == "image":
        return Image.fromarray(read_image(info))
    if info.files:
        number = min(int(at_s * info.fps + 1e-3), info.frames - 1)
        return Image.fromarray(next(iter(open_reader(info, 1, Reading(first=number))))[0])
    for moment in (_centre_of_frame(info, at_s), 0.0):  # a file cut short has nothing at a late moment
        frame = _grab(info, moment, exact)
        if frame is not None:
            return frame
    raise InvalidInput(f"{info.path.name} has no frame that can be decoded", remedy="export it again")


def _centre_of_frame(info: MediaInfo, at_s: float) -> float:
    """A seek yields the first frame at or after its target: half a frame earlier is the frame that is being shown."""
    number = min(int(at_s * info.fps + 1e-3), info.frames - 1)
    return max(0.0, (max(number, 0) - 0.5) / float(info.fps))


def _grab(info: MediaInfo, seek_s: float, exact: bool) -> Image.Image | None:
    arguments = [
        "-protocol_whitelist", "file", "-format_whitelist", CONTAINERS, "-max_pixels", str(MAX_PIXELS),
        "-threads", str(THREADS), "-apply_cropping", "codec", *(() if exact else ("-noaccurate_seek",)),
        "-ss", f"{seek_s:.6f}", "-i", f"file:{info.path}", "-map", "0:V:0", "-frames:v", "1",
        "-fps_mode", "passthrough", "-vf", to_rgb_filter(info), "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1",
    ]  # fmt: skip
    pixels = bytearray(info.width * info.height * 3)
    with FfmpegProcess(arguments, doing=f"looking at {info.path.name}", yields=True) as process:
        got = process.read_into(memoryview(pixels))
        process.finish()
    return Image.frombytes("RGB", (info.width, info.height), bytes(pixels)) if got == len(pixels) else None
