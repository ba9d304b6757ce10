"""Which codecs there are, what holds them and how their encoders are asked. Knows nothing of clips or tasks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

MP4_SOUND = ("aac", "mp3", "mp2", "ac3", "eac3", "dts", "alac", "flac", "opus")
PRESETS = ("fast", "medium", "slow")  # of a task, once `auto` is decided
TEXT_SUBTITLES = ("mov_text", "subrip", "ass", "ssa", "webvtt", "text")


@dataclass(frozen=True, slots=True)
class Container:
    """`sound` lists the codecs that are copied, none meaning all; what is missing there becomes `sound_codec`.

    `subtitles` maps what is carried to what it becomes ("copy" as it is); a codec that is missing there is dropped.
    """

    muxer: str
    sound: tuple[str, ...]
    sound_codec: str
    subtitles: Mapping[str, str]
    options: tuple[str, ...] = ()


_TEXT = dict.fromkeys(TEXT_SUBTITLES, "mov_text")
_ANY_TEXT = {"mov_text": "subrip", "text": "subrip", "subrip": "copy", "ass": "copy", "ssa": "copy", "webvtt": "copy",
             "hdmv_pgs_subtitle": "copy", "dvd_subtitle": "copy", "dvb_subtitle": "copy"}  # fmt: skip
CONTAINERS: Mapping[str, Container] = MappingProxyType({
    "mp4": Container("mp4", MP4_SOUND, "aac", _TEXT, ("-movflags", "+faststart")),
    "mov": Container("mov", ("aac", "mp3", "ac3", "eac3", "alac", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be",
                             "pcm_s32le", "pcm_f32le"), "aac", _TEXT, ("-movflags", "+faststart")),
    "mkv": Container("matroska", (), "copy", _ANY_TEXT),
    "webm": Container("webm", ("opus", "vorbis"), "libopus", dict.fromkeys(TEXT_SUBTITLES, "webvtt")),
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class VideoCodec:
    """How one codec is written. `pix_fmts` maps bits a sample to ffmpeg's pixel format.

    `bits_a_pixel` is what its default quality takes of ordinary footage, roughly: for estimates of disk space.
    """

    encoder: str
    containers: tuple[str, ...]  # the first is the default
    pix_fmts: Mapping[int, str]
    crf: int | None  # the default; None where the encoder knows no such thing
    worst_crf: int
    bits_a_pixel: float
    arguments: tuple[str, ...] = ()
    speed: str = ""  # the option that trades time for size
    speeds: tuple[str, ...] = ()  # its values: fast, medium, slow
    segment: str = "mp4"  # suffix and muxer of the intermediate files
    even: bool = True  # sides must be
    least_side: int = 1  # pixels, that its encoder takes (measured)
    most_fps: float = math.inf  # likewise
    medium_pixels_per_s: float = math.inf  # what a core reads and writes at medium: 1080p film, measured
    tag: str = ""  # in MP4 and MOV

    @property
    def rgb(self) -> bool:
        return self.pix_fmts[max(self.pix_fmts)].startswith(("rgb", "gbr"))


_X26 = ("veryfast", "medium", "slow")
VIDEO_CODECS: Mapping[str, VideoCodec] = MappingProxyType({
    "h264": VideoCodec("libx264", ("mp4", "mov", "mkv"), {8: "yuv420p", 10: "yuv420p10le"}, 18, 51, 0.3,
                       speed="-preset", speeds=_X26, medium_pixels_per_s=2.1e7),
    "h265": VideoCodec("libx265", ("mp4", "mov", "mkv"), {8: "yuv420p", 10: "yuv420p10le"}, 20, 51, 0.25,
                       speed="-preset", speeds=_X26, tag="hvc1", least_side=16, medium_pixels_per_s=9e6),
    "av1": VideoCodec("libsvtav1", ("mp4", "mkv", "webm"), {8: "yuv420p", 10: "yuv420p10le"}, 26, 63, 0.2,
                      speed="-preset", speeds=("10", "8", "5"), least_side=16, most_fps=240, medium_pixels_per_s=1.6e7),
    "vp9": VideoCodec("libvpx-vp9", ("webm", "mkv", "mp4"), {8: "yuv420p", 10: "yuv420p10le"}, 24, 63, 0.3,
                      ("-b:v", "0", "-deadline", "good", "-tile-columns", "2"), speed="-cpu-used",
                      speeds=("5", "3", "1"), segment="mkv", medium_pixels_per_s=8e6),
    "prores": VideoCodec("prores_ks", ("mov", "mkv"), {10: "yuv422p10le"}, None, 0, 3.6,
                         ("-profile:v", "3", "-vendor", "apl0"), segment="mov"),
    "ffv1": VideoCodec("ffv1", ("mkv",), {8: "gbrp", 10: "gbrp10le", 16: "gbrp16le"}, None, 0, 14.0,
                       ("-level", "3", "-slices", "4", "-slicecrc", "1"), segment="mkv", even=False, least_side=2),
    "png": VideoCodec("png", ("zip",), {8: "rgb24", 16: "rgb48be"}, None, 0, 16.0, segment="mov", even=False),
    "tiff": VideoCodec("tiff", ("zip",), {8: "rgb24", 16: "rgb48le"}, None, 0, 28.0, segment="mov", even=False),
})  # fmt: skip
NVENC: Mapping[str, str] = MappingProxyType({"h264": "h264_nvenc", "h265": "hevc_nvenc", "av1": "av1_nvenc"})
NVENC_10_BITS = ("h265", "av1")
DEFAULT_CODECS: Mapping[str, str] = MappingProxyType({"webm": "vp9", "zip": "png"})  # of containers; else by bit depth
IMAGE_FORMATS: Mapping[str, str] = MappingProxyType({"png": ".png", "jpeg": ".jpg", "webp": ".webp", "tiff": ".tiff"})
DEEP_IMAGE_FORMATS = ("png", "tiff")
SUFFIXES: Mapping[str, str] = MappingProxyType({  # of a path -> output_format
    ".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "mkv", ".webm": "webm", ".zip": "zip", ".png": "png",
    ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp", ".tif": "tiff", ".tiff": "tiff",
})  # fmt: skip


def nvenc_writes(codec: str, bits: int) -> bool:
    """Does any card?"""
    return codec in NVENC and (bits == 8 or (bits == 10 and codec in NVENC_10_BITS))


def nvenc_arguments(bits: int, preset: str = "medium") -> list[str]:
    speed, pix_fmt = ("p3", "p5", "p7")[PRESETS.index(preset)], "p010le" if bits > 8 else "yuv420p"
    return ["-preset", speed, "-rc", "vbr", "-b:v", "0", "-pix_fmt", pix_fmt]
