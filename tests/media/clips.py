"""Makes the tiny clips of the media tests with ffmpeg itself. Knows nothing of Upres but where its ffmpeg is."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from upres.media.ffmpeg import ffmpeg_path


def ffmpeg(*arguments: str | Path) -> None:
    subprocess.run(
        [ffmpeg_path(), "-nostdin", "-v", "error", "-y", *map(str, arguments)], check=True, stdin=subprocess.DEVNULL
    )


def source(rate: str = "24", size: str = "128x96", seconds: float = 1) -> list[str]:
    return ["-f", "lavfi", "-i", f"testsrc2=s={size}:r={rate}:d={seconds}"]


def sine(seconds: float = 1) -> list[str]:
    return ["-f", "lavfi", "-i", f"sine=440:d={seconds}"]


H264 = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"]


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


def rotated(folder: Path) -> Path:
    ffmpeg(*source(), *H264, folder / "upright.mp4")
    ffmpeg("-display_rotation", "90", "-i", folder / "upright.mp4", "-c", "copy", folder / "rotated.mp4")
    return folder / "rotated.mp4"


def cut_in_mid_gop(folder: Path) -> Path:
    """A stream copy from second 0.5: frames before the cut are in the file, hidden by an edit list."""
    ffmpeg(*source(), *sine(), *H264, "-bf", "2", "-g", "24", "-c:a", "aac", folder / "whole.mp4")
    ffmpeg("-ss", "0.5", "-i", folder / "whole.mp4", "-c", "copy", folder / "cut.mp4")
    return folder / "cut.mp4"


def hidden_vp8_frames(folder: Path) -> Path:
    """Two passes: only then libvpx stores alternate reference frames, packets that show nothing."""
    vp8 = ["-c:v", "libvpx", "-deadline", "good", "-auto-alt-ref", "1", "-lag-in-frames", "25", "-b:v", "100k",
           "-passlogfile", str(folder / "log")]  # fmt: skip
    ffmpeg(*source(seconds=2), *vp8, "-pass", "1", "-f", "null", "-")
    ffmpeg(*source(seconds=2), *vp8, "-pass", "2", folder / "hidden.webm")
    return folder / "hidden.webm"


def cover_art_first(folder: Path) -> Path:
    """The art is track 0 of the demuxer: moov's udta box, which holds it, is moved before the trak boxes."""
    ffmpeg(*source(size="200x200"), "-frames:v", "1", folder / "cover.png")
    ffmpeg("-i", folder / "cover.png", *source(), *sine(), "-map", "0", "-map", "1", "-map", "2",
           "-c:v:0", "copy", "-c:v:1", "libx264", "-pix_fmt", "yuv420p", "-disposition:v:0", "attached_pic",
           folder / "art.mp4")  # fmt: skip
    moved = [
        box if box[4:8] != b"moov"
        else box[:8] + b"".join(sorted(boxes(box[8:]), key=lambda inner: inner[4:8] == b"trak"))
        for box in boxes((folder / "art.mp4").read_bytes())
    ]  # fmt: skip
    (folder / "first.mp4").write_bytes(b"".join(moved))
    return folder / "first.mp4"


def boxes(data: bytes) -> list[bytes]:
    """The boxes of an MP4 level, each with its head (ISO/IEC 14496-12, 4.2)."""
    found = []
    while data:
        size = int.from_bytes(data[:4], "big")
        found.append(data[:size])
        data = data[size:]
    return found


def size_change(folder: Path) -> Path:
    parts = []
    for start, size in (("0", "128x96"), ("0.5", "96x64")):
        ffmpeg(*source(size=size, seconds=0.5), *H264, "-output_ts_offset", start, folder / f"{size}.ts")
        parts.append((folder / f"{size}.ts").read_bytes())
    (folder / "joined.ts").write_bytes(b"".join(parts))
    return folder / "joined.ts"


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
    "rotated": Kind(rotated, size=(96, 128)),
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


def variable_rate(folder: Path) -> Path:
    """Every third frame, then from frame 15 on every one: 5 + 9 = 14 frames in one second."""
    keep = "select='not(mod(n,3))*lt(n,15)+gte(n,15)'"
    ffmpeg(*source(), "-vf", keep, "-fps_mode", "vfr", *H264, folder / "vfr.mp4")
    return folder / "vfr.mp4"


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


def moving_gradient(count: int, width: int = 96, height: int = 64) -> np.ndarray:
    """A moving gradient, `T H W C` uint8: easy to encode, different in each frame."""
    rows, columns = np.mgrid[0:height, 0:width]
    frames = [np.stack([columns * 2 + 5 * n, rows * 3, columns + rows], -1) % 256 for n in range(count)]
    smooth = np.clip(np.stack(frames), 0, 255)
    return smooth.astype(np.uint8)


def packets(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for packet in container.demux(video=0) if packet.size)
