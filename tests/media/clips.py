"""The tiny clips of the media tests: what is not of the contract's own recipes. Knows nothing of Upres."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np

from tests.contract.making import (
    H264,
    cover_art_first,
    cut_in_mid_gop,
    ffmpeg,
    hidden_vp8_frames,
    size_change,
    turned,
    variable,
)
from tests.contract.making import tone as sine


def source(rate: str = "24", size: str = "128x96", seconds: float = 1) -> list[str]:
    return ["-f", "lavfi", "-i", f"testsrc2=s={size}:r={rate}:d={seconds}"]


@dataclass(frozen=True)
class Kind:
    """A kind of ordinary clip: how to make it in a folder, and what it must turn out to be."""

    make: Callable[[Path], Path]
    frames: int = 24
    fps: Fraction = Fraction(24)
    size: tuple[int, int] = (128, 96)


def encoded(name: str, *arguments: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        ffmpeg(*arguments, folder / name)
        return folder / name

    return make


NTSC_FILM, NTSC = Fraction(24000, 1001), Fraction(30000, 1001)
TWO_TRACKS = ["-map", "0", "-map", "1", "-map", "1", "-c:a:0", "aac", "-c:a:1", "flac"]
KINDS: dict[str, Kind] = {
    "h264 mp4": Kind(encoded("a.mp4", *source(), *H264)),
    "b-frames": Kind(encoded("a.mp4", *source(), *H264, "-bf", "3", "-preset", "medium")),
    "24000/1001 in milliseconds": Kind(encoded("a.mkv", *source("24000/1001"), *H264), 24, NTSC_FILM),
    "30000/1001": Kind(encoded("a.mp4", *source("30000/1001"), *H264), 30, NTSC),
    "25": Kind(encoded("a.mov", *source("25"), *H264), 25, Fraction(25)),
    "1/2": Kind(encoded("a.mp4", *source("1/2", seconds=8), *H264), 4, Fraction(1, 2)),
    "odd size": Kind(encoded("a.mkv", *source(), "-vf", "format=yuv444p,crop=127:95", "-c:v", "ffv1"), size=(127, 95)),
    "rotated": Kind(turned(90), size=(96, 128)),
    "one frame": Kind(encoded("a.mp4", *source(), *H264, "-frames:v", "1"), 1),
    "two audio tracks": Kind(encoded("a.mkv", *source(), *sine(), *TWO_TRACKS, *H264)),
    "start offset": Kind(encoded("a.ts", *source(), *sine(), *H264, "-output_ts_offset", "5")),
    "edit list": Kind(cut_in_mid_gop, 12),
    "hidden vp8 frames": Kind(hidden_vp8_frames, 48),
    "vp9": Kind(encoded("a.webm", *source(), "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8")),
    "interlaced mpeg2": Kind(encoded("a.ts", *source(), "-c:v", "mpeg2video", "-flags", "+ildct+ilme")),
    "mpeg4 avi": Kind(encoded("a.avi", *source(), "-c:v", "mpeg4", "-bf", "2")),
    "flv": Kind(encoded("a.flv", *source(), "-c:v", "flv")),
    "wmv": Kind(encoded("a.wmv", *source(), "-c:v", "wmv2")),
    "theora": Kind(encoded("a.ogv", *source(), "-c:v", "libtheora")),
    "fragmented": Kind(encoded("a.mp4", *source(), *H264, "-movflags", "frag_keyframe+empty_moov")),
    "cover art first": Kind(cover_art_first),
    "size change": Kind(size_change),
    "10 bits": Kind(encoded("a.mkv", *source(), "-pix_fmt", "yuv420p10le", "-c:v", "ffv1")),
    "alpha": Kind(encoded("a.mov", *source(), "-pix_fmt", "argb", "-c:v", "qtrle")),
}


variable_rate = variable("vfr.mp4")
KR_KB = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}  # ITU-R BT.601 and BT.709


def yuv(rgb: tuple[int, int, int], matrix: str, color_range: str) -> list[int]:
    """The textbook conversion, so that the tests do not ask swscale whether swscale is right."""
    (kr, kb), (red, green, blue) = KR_KB[matrix], (value / 255 for value in rgb)
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    chroma = ((blue - luma) / (2 - 2 * kb), (red - luma) / (2 - 2 * kr))
    low, luma_span, chroma_span = (0, 255, 255) if color_range == "pc" else (16, 219, 224)
    return [round(low + luma_span * luma), *(round(128 + chroma_span * value) for value in chroma)]


def solid(path: Path, rgb: tuple[int, int, int], *, matrix: str, color_range: str = "tv", size: str = "64x48") -> Path:
    """Two frames of one colour, lossless and tagged; `path` may name any container."""
    name = {"bt601": "smpte170m"}.get(matrix, matrix)
    width, height = map(int, size.split("x"))
    raw = path.with_suffix(".yuv")
    raw.write_bytes(b"".join(bytes([value]) * (width * height) for value in yuv(rgb, matrix, color_range)) * 2)
    ffmpeg("-f", "rawvideo", "-pix_fmt", "yuv444p", "-s", size, "-r", "24", "-i", raw,
           "-vf", tags(name, name, color_range), "-c:v", "libx264", "-qp", "0", path)  # fmt: skip
    return path


def tags(matrix: str, transfer: str, color_range: str) -> str:
    primaries = {"bt2020nc": "bt2020"}.get(matrix, matrix)
    return f"setparams=colorspace={matrix}:color_primaries={primaries}:color_trc={transfer}:range={color_range}"


def every_value() -> np.ndarray:
    """`H W 4` uint16: each of the 65536 values in each channel, at other places."""
    values = np.arange(1 << 16, dtype=np.uint32).reshape(256, 256)
    return np.stack([values, 65535 - values, values * 7 % 65536, values * 3 % 65536], -1).astype(np.uint16)


def deep_clip(path: Path, image: np.ndarray, codec: str, pix_fmt: str) -> Path:
    """One frame of `H W 4` uint16, lossless; `pix_fmt` may have no alpha."""
    raw = path.with_suffix(".rgba64")
    raw.write_bytes(image.tobytes() if "a" in pix_fmt else image[..., :3].tobytes())
    ffmpeg("-f", "rawvideo", "-pix_fmt", "rgba64le" if "a" in pix_fmt else "rgb48le", "-s", "256x256", "-i", raw,
           "-c:v", codec, "-pix_fmt", pix_fmt, path)  # fmt: skip
    return path


# across and down, in pixels, from the middle of the upper left one of four pixels to their chroma sample
CHROMA = {"left": (0, 0.5), "center": (0.5, 0.5), "topleft": (0, 0), "top": (0.5, 0), "bottomleft": (0, 1),
          "bottom": (0.5, 1)}  # fmt: skip


def chroma_ramps(size: int = 64) -> np.ndarray:
    """`H W 3`, RGB of [0, 255], float: Cb rises by 1.5 levels of BT.709 a pixel to the right, Cr as much downwards."""
    ramp = 1.5 * (np.arange(size) - size / 2)
    cb, cr = np.broadcast_to(ramp, (size, size)) / 224, np.broadcast_to(ramp[:, None], (size, size)) / 224
    kr, kb = KR_KB["bt709"]
    luma = 112 / 219
    red, blue = luma + (2 - 2 * kr) * cr, luma + (2 - 2 * kb) * cb
    return np.stack([red, (luma - kr * red - kb * blue) / (1 - kr - kb), blue], -1) * 255


def chroma_clip(path: Path, location: str, size: int = 64) -> Path:
    """Two frames of the ramps, 4:2:0, lossless and tagged; their chroma samples are those of `location`."""
    right, down = CHROMA[location]
    at = np.arange(0, size, 2) - size / 2
    cb, cr = 128 + 1.5 * (at + right), 128 + 1.5 * (at + down)
    planes = [np.full((size, size), 128), np.tile(cb, (size // 2, 1)), np.tile(cr[:, None], (1, size // 2))]
    raw = path.with_suffix(".yuv")
    raw.write_bytes(b"".join(plane.round().astype(np.uint8).tobytes() for plane in planes) * 2)
    says = f"lossless=1:log-level=error:chromaloc={list(CHROMA).index(location)}"
    encoder = ["libx265", "-x265-params", says] if path.suffix == ".mp4" else ["libx264", "-qp", "0"]
    ffmpeg("-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{size}x{size}", "-r", "24", "-i", raw,
           "-vf", f"{tags('bt709', 'bt709', 'tv')}:chroma_location={location}", "-c:v", *encoder, path)  # fmt: skip
    return path


def chroma_location(path: Path) -> str:
    """As the stream says it; empty where it says nothing."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-v", "verbose", "-i", path]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    found = re.search(rf"Video: .*, ({'|'.join(CHROMA)})\)", said)
    return found[1] if found else ""


def moving_gradient(count: int, width: int = 96, height: int = 64) -> np.ndarray:
    """A moving gradient, `T H W C` uint8: easy to encode, different in each frame."""
    rows, columns = np.mgrid[0:height, 0:width]
    frames = [np.stack([columns * 2 + 5 * n, rows * 3, columns + rows], -1) % 256 for n in range(count)]
    smooth = np.clip(np.stack(frames), 0, 255)
    return smooth.astype(np.uint8)


def packets(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for packet in container.demux(video=0) if packet.size)
