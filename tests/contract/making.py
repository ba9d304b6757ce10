"""Makes the clips of the contract with ffmpeg and Pillow. Knows nothing of Upres but where its ffmpeg is."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from upres.media.ffmpeg import ffmpeg_path

Make = Callable[[Path], Path]
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
HEVC = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error", "-pix_fmt", "yuv420p")
AV1 = ("-c:v", "libsvtav1", "-preset", "12", "-pix_fmt", "yuv420p")
VP9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-pix_fmt", "yuv420p")
SRT = "1\n00:00:00,100 --> 00:00:00,600\nHello\n"


def ffmpeg(*arguments: str | Path) -> None:
    command = [ffmpeg_path(), "-nostdin", "-v", "error", "-y", *map(str, arguments)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)


def picture(rate: str = "24", size: str = "128x96", seconds: float = 1) -> list[str]:
    """Soft and moving, with a colour of its own in each frame."""
    shapes = f"gradients=s={size}:r={rate}:d={seconds}:speed=0.05:seed=3:n=4,hue=h=20*sin(n)"
    return ["-f", "lavfi", "-i", shapes]


def tone(seconds: float = 1) -> list[str]:
    return ["-f", "lavfi", "-i", f"sine=440:d={seconds}"]


def clip(
    name: str, *arguments: str, plain: Sequence[str] = H264, rate: str = "24", size: str = "128x96",
    seconds: float = 1, sound: bool = False,
) -> Make:  # fmt: skip
    def make(folder: Path) -> Path:
        heard = (*tone(seconds), "-c:a", "aac") if sound else ()
        ffmpeg(*picture(rate, size, seconds), *heard[:4], *plain, *heard[4:], *arguments, folder / name)
        return folder / name

    return make


def variable(name: str) -> Make:
    """Every third frame, then from frame 15 on every one: 5 + 9 = 14 frames in one second."""
    keep = "select='not(mod(n,3))*lt(n,15)+gte(n,15)'"
    return clip(name, "-vf", keep, "-fps_mode", "vfr", sound=True)


def pause(folder: Path) -> Path:
    """A second, two seconds of nothing, half a second."""
    keep = "select='lt(n,24)+gte(n,72)'"
    return clip("a.mp4", "-vf", keep, "-fps_mode", "vfr", seconds=3.5, sound=True)(folder)


def late(picture_s: float, sound_s: float) -> Make:
    def make(folder: Path) -> Path:
        ffmpeg("-itsoffset", str(picture_s), *picture(), "-itsoffset", str(sound_s), *tone(), *H264, folder / "a.mp4")
        return folder / "a.mp4"

    return make


def flashes(folder: Path, seconds: int = 3, rate: str = "24") -> Path:
    """At every full second one white frame and a beep of 40 ms."""
    light = f"if(lt(mod(T+0.0001,1),1/({rate})),235,16)"
    flash = f"color=black:s=64x48:r={rate}:d={seconds},geq=lum='{light}':cb=128:cr=128"
    beep = f"aevalsrc='sin(2*PI*1000*t)*lt(mod(t,1),0.04)':s=48000:d={seconds}"
    ffmpeg("-f", "lavfi", "-i", flash, "-f", "lavfi", "-i", beep, *H264, "-c:a", "aac", folder / "a.mp4")
    return folder / "a.mp4"


def turned(degrees: int, filters: str = "null") -> Make:
    def make(folder: Path) -> Path:
        ffmpeg(*picture(), "-vf", filters, *H264, folder / "upright.mp4")
        ffmpeg("-display_rotation", str(degrees), "-i", folder / "upright.mp4", "-c", "copy", folder / "a.mp4")
        return folder / "a.mp4"

    return make


def interlaced(folder: Path) -> Path:
    fields = ["-vf", "tinterlace=mode=interleave_top,setfield=tff", "-flags", "+ildct+ilme"]
    ffmpeg(*picture("48"), *fields, "-c:v", "mpeg2video", "-q:v", "3", "-r", "24", folder / "a.ts")
    return folder / "a.ts"


def two_sounds(folder: Path) -> Path:
    tracks = ["-map", "0", "-map", "1", "-map", "1", "-c:a:0", "aac", "-c:a:1", "flac"]
    ffmpeg(*picture(), *tone(), *tracks, *H264, folder / "a.mkv")
    return folder / "a.mkv"


def surround(folder: Path) -> Path:
    return clip("a.mp4", "-ac", "6", sound=True)(folder)


def srt(suffix: str, codec: str) -> Make:
    def make(folder: Path) -> Path:
        (folder / "a.srt").write_text(SRT)
        ffmpeg(*picture(), *tone(), "-i", folder / "a.srt", "-map", "0", "-map", "1", "-map", "2", *H264,
               "-c:a", "aac", "-c:s", codec, folder / f"a.{suffix}")  # fmt: skip
        return folder / f"a.{suffix}"

    return make


def chapters(folder: Path) -> Path:
    chapter = "[CHAPTER]\nTIMEBASE=1/1000\nSTART={}\nEND={}\ntitle={}\n"
    (folder / "meta").write_text(
        ";FFMETADATA1\ntitle=A film\n" + chapter.format(0, 400, "one") + chapter.format(400, 1000, "two")
    )
    ffmpeg(*picture(), *tone(), "-i", folder / "meta", "-map", "0", "-map", "1", "-map_metadata", "2",
           "-metadata:s:a:0", "language=fra", *H264, "-c:a", "aac", folder / "a.mkv")  # fmt: skip
    return folder / "a.mkv"


def painted(matrix: str, primaries: str, transfer: str, color_range: str, pix_fmt: str = "yuv420p") -> Make:
    """Tagged, and converted with the matrix and range that the tags name."""
    to = {"smpte170m": "bt601", "bt470bg": "bt601", "bt2020nc": "bt2020"}.get(matrix, matrix)
    tags = f"setparams=colorspace={matrix}:color_primaries={primaries}:color_trc={transfer}:range={color_range}"
    code = f"format=gbrp,scale=out_color_matrix={to}:out_range={color_range},format={pix_fmt},{tags}"
    plain = H264[:4] if "12" not in pix_fmt else ("-c:v", "ffv1")
    return clip("a.mkv", "-vf", code, plain=plain)


def hdr10(folder: Path) -> Path:
    tags = "setparams=colorspace=bt2020nc:color_primaries=bt2020:color_trc=smpte2084:range=tv"
    code = f"format=gbrp,scale=out_color_matrix=bt2020:out_range=tv,format=yuv420p10le,{tags}"
    master = "log-level=error:master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
    ffmpeg(*picture(), "-vf", code, "-c:v", "libx265", "-preset", "ultrafast", "-x265-params",
           f"{master}:max-cll=1000,400", folder / "a.mp4")  # fmt: skip
    return folder / "a.mp4"


def cut(folder: Path) -> Path:
    ffmpeg(*picture(), *H264, "-bf", "0", "-movflags", "+faststart", folder / "whole.mp4")
    data = (folder / "whole.mp4").read_bytes()
    (folder / "a.mp4").write_bytes(data[: len(data) * 6 // 10])
    return folder / "a.mp4"


def flipped(folder: Path) -> Path:
    ffmpeg(*picture(seconds=2), "-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "6", folder / "whole.mp4")
    data, dice = bytearray((folder / "whole.mp4").read_bytes()), random.Random(4)
    start = data.index(b"mdat") + 4
    end = data.index(b"moov")
    for _ in range(200):
        data[dice.randrange(start + 2000, end - 8)] ^= 0xFF
    (folder / "a.mp4").write_bytes(data)
    return folder / "a.mp4"


def hole(folder: Path) -> Path:
    """A third of the packets in the middle are missing."""
    ffmpeg(*picture(seconds=3), *tone(3), *H264, "-g", "6", "-c:a", "aac", folder / "whole.ts")
    data = (folder / "whole.ts").read_bytes()
    packets = len(data) // 188
    (folder / "a.ts").write_bytes(data[: packets // 3 * 188] + data[packets * 2 // 3 * 188 :])
    return folder / "a.ts"


def pixels(deep: bool = False, channels: int = 3, number: int = 0) -> np.ndarray:
    rows, columns = np.mgrid[0:96, 0:128].astype(float)
    waves = [np.sin(rows / 17 + k + number) + np.cos(columns / 23 - k) for k in range(channels)]
    unit = (np.stack(waves, -1) + 2) / 4
    return np.round(unit * (65535 if deep else 255)).astype(np.uint16 if deep else np.uint8)


def image(name: str, *, deep: bool = False, orientation: int = 1) -> Make:
    def make(folder: Path) -> Path:
        if deep:
            return deep_image(folder / name, pixels(True), "rgb48")
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(pixels()).save(folder / name, exif=exif, **({"quality": 98} if name.endswith("jpg") else {}))
        return folder / name

    return make


def alpha_png(folder: Path) -> Path:
    return deep_image(folder / "a.png", pixels(True, 4), "rgba64")


def deep_image(path: Path, samples: np.ndarray, pix_fmt: str) -> Path:
    raw = path.with_suffix(".raw")
    raw.write_bytes(samples.astype("<u2").tobytes())
    ffmpeg("-f", "rawvideo", "-pix_fmt", f"{pix_fmt}le", "-s", f"{samples.shape[1]}x{samples.shape[0]}", "-i", raw,
           "-update", "1", path)  # fmt: skip
    return path


def folder(where: Path) -> Path:
    """Numbers without leading zeros: 10.png comes after 9.png."""
    (where / "stills").mkdir()
    for number in range(5, 12):
        Image.fromarray(pixels(number=number)).save(where / "stills" / f"{number}.png")
    return where / "stills"


def deep_folder(where: Path) -> Path:
    (where / "stills").mkdir()
    for number in range(3):
        path = deep_image(where / "stills" / f"{number}.png", pixels(True, number=number), "rgb48")
        path.with_suffix(".raw").unlink()
    return where / "stills"


def cut_in_mid_gop(folder: Path) -> Path:
    """A stream copy from second 0.5: frames before the cut are in the file, hidden by an edit list."""
    ffmpeg(*picture(), *tone(), *H264, "-bf", "2", "-preset", "fast", "-g", "24", "-c:a", "aac", folder / "whole.mp4")
    ffmpeg("-ss", "0.5", "-i", folder / "whole.mp4", "-c", "copy", folder / "cut.mp4")
    return folder / "cut.mp4"


def hidden_vp8_frames(folder: Path) -> Path:
    """Two passes: only then libvpx stores alternate reference frames, packets that show nothing."""
    vp8 = ["-c:v", "libvpx", "-deadline", "good", "-auto-alt-ref", "1", "-lag-in-frames", "25", "-b:v", "100k",
           "-passlogfile", str(folder / "log")]  # fmt: skip
    ffmpeg(*picture(seconds=2), *vp8, "-pass", "1", "-f", "null", "-")
    ffmpeg(*picture(seconds=2), *vp8, "-pass", "2", folder / "hidden.webm")
    return folder / "hidden.webm"


def cover_art_first(folder: Path) -> Path:
    """The art is track 0 of the demuxer: moov's udta box, which holds it, is moved before the trak boxes."""
    ffmpeg(*picture(size="200x200"), "-frames:v", "1", folder / "cover.png")
    ffmpeg("-i", folder / "cover.png", *picture(), *tone(), "-map", "0", "-map", "1", "-map", "2",
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
        ffmpeg(*picture(size=size, seconds=0.5), *H264, "-output_ts_offset", start, folder / f"{size}.ts")
        parts.append((folder / f"{size}.ts").read_bytes())
    (folder / "joined.ts").write_bytes(b"".join(parts))
    return folder / "joined.ts"
