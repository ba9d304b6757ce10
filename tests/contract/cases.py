"""The nasty clips and what is promised of each. Knows nothing of how a promise is checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from . import making
from .making import AV1, HEVC, VP9, alpha_png, clip, image, painted, srt

Make = Callable[[Path], Path]
SD, HD709 = ("tv", "smpte170m", "smpte170m", "bt709"), ("tv", "bt709", "bt709", "bt709")
PQ, HLG = ("tv", "bt2020", "smpte2084", "bt2020nc"), ("tv", "bt2020", "arib-std-b67", "bt2020nc")
RGB = ("pc", "bt709", "bt709", "gbr")


@dataclass(frozen=True)
class Case:
    """`order` is what is asked for beside the input; the rest is the promise. Sizes are width, height.

    `rate`: of a steady clip; None: every frame keeps its own time. `said`: a piece of each warning, in any order.
    `refused`: the error's code, and nothing else counts. `error`: mean distance to the source, 8-bit levels.
    """

    name: str
    make: Make
    order: Mapping[str, object] = field(default_factory=dict)
    frames: int = 24
    rate: str | None = "24"
    size: tuple[int, int] = (256, 192)
    codec: str = "h264"
    colour: tuple[str, str, str, str] | None = HD709  # range, primaries, transfer, matrix
    bits: int = 8
    sound: tuple[str, ...] = ()
    subtitles: tuple[str, ...] = ()
    aspect: str = "1"
    said: tuple[str, ...] = ()
    refused: str = ""
    error: float = 3.0
    quick: bool = False  # part of make test as well


def _rates() -> list[Case]:
    counts = {"24000/1001": 24, "30000/1001": 30, "60000/1001": 60, "25": 25, "50": 50, "15": 15, "25/2": 13,
              "168/11": 16, "1000": 24}  # fmt: skip
    made = [
        Case(f"{rate} a second in {suffix}", clip(f"a.{suffix}", "-frames:v", str(count), rate=rate, seconds=2),
             frames=count, rate=rate, quick=(rate, suffix) == ("24000/1001", "mkv"))
        for suffix, rates in (("mp4", counts), ("mkv", ("24000/1001", "30000/1001", "60000/1001", "25", "1000")))
        for rate, count in ((r, counts[r]) for r in rates)
    ]  # fmt: skip
    return [*made, Case("one frame in two seconds", clip("a.mp4", rate="1/2", seconds=8), frames=4, rate="1/2")]


def _times() -> list[Case]:
    return [
        Case("variable rate in mp4", making.variable("a.mp4"), frames=14, rate=None, sound=("aac",), quick=True),
        Case("variable rate in mkv", making.variable("a.mkv"), frames=14, rate=None, sound=("aac",)),
        Case("variable rate in ts", making.variable("a.ts"), frames=14, rate=None, sound=("aac",)),
        Case("variable rate into mkv", making.variable("a.mp4"), {"output_format": "mkv"}, frames=14, rate=None,
             sound=("aac",)),
        Case("a pause of two seconds", making.pause, frames=36, rate=None, sound=("aac",)),
        Case("start offset of 5 s", clip("a.ts", "-output_ts_offset", "5", sound=True), sound=("aac",), quick=True),
        Case("picture 0.5 s late", making.late(0.5, 0), sound=("aac",)),
        Case("sound 0.5 s late", making.late(0, 0.5), sound=("aac",)),
        Case("stream copy cut in mid-GOP (edit list)", making.cut_in_mid_gop, frames=12, sound=("aac",), quick=True),
        Case("flashes with beeps", making.flashes, frames=72, sound=("aac",), error=8),
        *(Case(f"{n} frame{'s' if n > 1 else ''}", clip("a.mp4", "-frames:v", str(n)), frames=n) for n in (1, 2, 3, 5)),
    ]  # fmt: skip


def _kinds() -> list[Case]:
    def kind(name: str, *arguments: str, **promise: object) -> Case:
        return Case(f"{arguments[1]} in {name}", clip(f"a.{name}", plain=arguments), **promise)  # type: ignore[arg-type]

    return [
        kind("mp4", "-c:v", "libx264", "-bf", "3", "-pix_fmt", "yuv420p"), kind("mkv", *HEVC), kind("mp4", *AV1),
        kind("webm", *VP9), kind("avi", "-c:v", "mpeg4", "-bf", "2"), kind("avi", "-c:v", "mjpeg", colour=None),
        kind("avi", "-c:v", "rawvideo", "-pix_fmt", "yuv420p"), kind("avi", "-c:v", "huffyuv"),
        kind("ts", "-c:v", "mpeg2video"),
        kind("flv", "-c:v", "flv"), kind("wmv", "-c:v", "wmv2"), kind("ogv", "-c:v", "libtheora"),
        kind("mov", "-c:v", "prores_ks", codec="hevc", bits=10), kind("mkv", "-c:v", "ffv1", "-pix_fmt", "yuv420p"),
        kind("mov", "-c:v", "png", "-pix_fmt", "rgb24"), kind("mkv", "-c:v", "libx264", "-pix_fmt", "yuv444p"),
        kind("mp4", "-c:v", "libx264", "-pix_fmt", "yuv422p"), kind("mkv", "-c:v", "ffv1", "-pix_fmt", "gray"),
        kind("avi", "-c:v", "rawvideo", "-pix_fmt", "pal8", error=30),
        Case("fragmented mp4", clip("a.mp4", "-movflags", "frag_keyframe+empty_moov")),
        Case("hidden VP8 frames", making.hidden_vp8_frames, frames=48),
        Case("size change in mid-stream", making.size_change, error=40, said=("a cut-off packet",)),
    ]  # fmt: skip


def _geometry() -> list[Case]:
    return [
        Case("odd size", clip("a.mkv", "-vf", "format=yuv444p,crop=127:95", plain=("-c:v", "ffv1")), size=(256, 192)),
        Case("turned by 90", making.turned(90), size=(192, 256), quick=True),
        Case("turned by 180", making.turned(180)),
        Case("turned by 270", making.turned(270), size=(192, 256)),
        Case("sample aspect 4:3", clip("a.mp4", "-vf", "setsar=4/3"), aspect="4/3", quick=True),
        Case("sample aspect 4:3, turned", making.turned(90, "setsar=4/3"), size=(192, 256), aspect="3/4"),
        Case("upright", clip("a.mp4", size="96x128"), size=(192, 256)),
        Case("16x16", clip("a.mkv", size="16x16"), size=(192, 192), error=30),
        Case("2x2", clip("a.mkv", size="2x2"), {"resolution": 16}, size=(16, 16), error=60),
        Case("interlaced MPEG-2", making.interlaced, said=("is deinterlaced",), error=12, quick=True),
        Case("interlaced, kept", making.interlaced, {"interlaced": "keep"}, said=("fields restored as they are",),
             error=12),
        Case("interlaced, refused", making.interlaced, {"interlaced": "refuse"}, refused="unsupported_media"),
        Case("cover art as first track", making.cover_art_first, sound=("aac",), said=("cover art is dropped",)),
        Case("alpha", clip("a.mov", plain=("-c:v", "qtrle", "-pix_fmt", "argb")), said=("alpha channel is dropped",)),
    ]  # fmt: skip


def _tracks() -> list[Case]:
    def sound(codec: str, suffix: str, carried: str, *said: str, **order: object) -> Case:
        extra = ("-strict", "-2") if codec == "opus" else ()
        make = clip(f"a.{suffix}", "-c:a", codec, *extra, sound=True)
        where = f" into {order['output_format']}" if order else ""
        return Case(f"{codec} sound{where}", make, order, sound=(carried,), said=said,
                    codec="vp9" if order.get("output_format") == "webm" else "h264")  # fmt: skip

    return [
        sound("aac", "mp4", "aac"), sound("flac", "mkv", "flac"), sound("ac3", "mkv", "ac3"),
        sound("libmp3lame", "mkv", "mp3"), sound("libopus", "mkv", "opus"),
        sound("pcm_s16le", "mkv", "aac", "converted to AAC"), sound("libvorbis", "mkv", "aac", "converted to AAC"),
        sound("pcm_s24le", "mkv", "pcm_s24le", output_format="mkv"),
        sound("pcm_s16le", "mkv", "pcm_s16le", output_format="mov"),
        sound("aac", "mp4", "opus", "converted to OPUS", output_format="webm"),
        sound("libopus", "mkv", "opus", output_format="webm"),
        Case("two sound tracks", making.two_sounds, sound=("aac", "flac"), quick=True),
        Case("5.1 sound", making.surround, sound=("aac",)),
        Case("subrip subtitles", srt("mkv", "srt"), subtitles=("mov_text",), sound=("aac",), quick=True),
        Case("ass subtitles into mkv", srt("mkv", "ass"), {"output_format": "mkv"}, subtitles=("ass",), sound=("aac",)),
        Case("mov_text subtitles into mkv", srt("mp4", "mov_text"), {"output_format": "mkv"}, subtitles=("subrip",),
             sound=("aac",)),
        Case("subtitles into a zip", srt("mkv", "srt"), {"output_format": "zip"}, codec="png", colour=None,
             said=("1 sound track and 1 subtitle track dropped",)),
        Case("chapters, title and language", making.chapters, sound=("aac",)),
    ]  # fmt: skip


def _colours() -> list[Case]:
    return [
        Case("tagged BT.601", painted("smpte170m", "smpte170m", "smpte170m", "tv"), colour=SD, quick=True),
        Case("tagged BT.709, full range", painted("bt709", "bt709", "bt709", "pc")),
        Case("tagged BT.601, full range", painted("smpte170m", "smpte170m", "smpte170m", "pc"), colour=SD),
        Case("untagged, 96 lines", clip("a.mp4")),
        Case("untagged, 720 lines", clip("a.mp4", size="64x720", seconds=0.25), {"resolution": 64}, frames=6,
             size=(64, 720)),
        Case("PAL primaries", painted("bt470bg", "bt470bg", "smpte170m", "tv"),
             colour=("tv", "bt470bg", "smpte170m", "bt709")),
        Case("10 bits", painted("bt709", "bt709", "bt709", "tv", "yuv420p10le"), codec="hevc", bits=10, quick=True),
        Case("10 bits, wide gamut", painted("bt2020nc", "bt2020", "bt2020-10", "tv", "yuv420p10le"), codec="hevc",
             bits=10, colour=("tv", "bt2020", "bt2020-10", "bt2020nc")),
        Case("HDR10 with mastering metadata", making.hdr10, codec="hevc", bits=10, colour=PQ, quick=True),
        Case("HDR10 into AV1", making.hdr10, {"codec": "av1"}, codec="av1", bits=10, colour=PQ),
        Case("HDR10 into ProRes", making.hdr10, {"codec": "prores"}, codec="prores", bits=10, colour=PQ,
             said=("mastering display metadata is dropped",)),
        Case("HDR10 to 8 bits", making.hdr10, {"bit_depth": 8}, said=("tone-mapped to SDR",), error=99),
        Case("HLG", painted("bt2020nc", "bt2020", "arib-std-b67", "tv", "yuv420p10le"), codec="hevc", bits=10,
             colour=HLG),
        Case("12 bits", painted("bt709", "bt709", "bt709", "tv", "yuv420p12le"), codec="hevc", bits=10,
             said=("12 bits per sample are reduced to 10",)),
    ]  # fmt: skip


def _outputs() -> list[Case]:
    def out(codec: str, written: str, **more: object) -> Case:
        order = {"codec": codec, **({"output_format": more.pop("holder")} if "holder" in more else {})}
        name = f"to {codec}" + (f" in {order['output_format']}" if "output_format" in order else "")
        return Case(name, clip("a.mp4", sound=True), order, codec=written,
                    **{"sound": ("aac",), **more})  # type: ignore[arg-type]  # fmt: skip

    nothing = {"sound": (), "said": ("1 sound track dropped",), "colour": None}
    return [
        out("h264", "h264", holder="mkv"), out("h264", "h264", holder="mov"), out("h265", "hevc", quick=True),
        out("av1", "av1"), out("vp9", "vp9", sound=("opus",), said=("converted to OPUS",)),
        out("vp9", "vp9", holder="mp4"), out("prores", "prores", bits=10, quick=True),
        out("ffv1", "ffv1", colour=RGB, error=1), out("png", "png", error=1, quick=True, **nothing),
        out("tiff", "tiff", error=1, **nothing),
        Case("10 bits to h264", painted("bt709", "bt709", "bt709", "tv", "yuv420p10le"), {"codec": "h264"}, bits=10),
        Case("10 bits to png", painted("bt709", "bt709", "bt709", "tv", "yuv420p10le"), {"codec": "png"}, bits=16,
             codec="png", colour=None, error=1),
        Case("10 bits to ffv1", painted("bt709", "bt709", "bt709", "tv", "yuv420p10le"), {"codec": "ffv1"}, bits=10,
             codec="ffv1", colour=RGB, error=1),
        Case("prores in mp4", clip("a.mp4"), {"codec": "prores", "output_format": "mp4"}, refused="invalid_parameter"),
        Case("crf for ffv1", clip("a.mp4"), {"codec": "ffv1", "crf": 10}, refused="invalid_parameter"),
        Case("crf 60 for h264", clip("a.mp4"), {"crf": 60}, refused="invalid_parameter"),
        Case("16 bits for h265", clip("a.mp4"), {"codec": "h265", "bit_depth": 16}, refused="invalid_parameter"),
        Case("png for a video", clip("a.mp4"), {"output_format": "png"}, refused="invalid_parameter"),
        Case("odd size for h264", clip("a.mp4"), {"width": 255, "height": 191}, refused="invalid_parameter"),
    ]  # fmt: skip


def _sizes() -> list[Case]:
    small = clip("a.mp4")
    return [
        Case("width alone", small, {"width": 200}, size=(200, 150), error=12),
        Case("exact size, bars", small, {"width": 300, "height": 192}, size=(300, 192), error=99, quick=True),
        Case("exact size, cropped", small, {"width": 300, "height": 192, "fit": "crop"}, size=(300, 192), error=99),
        Case("exact size, stretched", small, {"width": 300, "height": 192, "fit": "stretch"}, size=(300, 192)),
        Case("exact size of wide samples", clip("a.mp4", "-vf", "setsar=4/3"), {"width": 256, "height": 144},
             size=(256, 144), error=12),
        Case("scale 2", small, {"scale": 2}), Case("at most 200", small, {"max_side": 200}, size=(200, 150), error=12),
        Case("odd size to ffv1", small, {"codec": "ffv1", "width": 255, "height": 191, "fit": "stretch"},
             size=(255, 191), codec="ffv1", colour=RGB, error=12),
    ]  # fmt: skip


def _damage() -> list[Case]:
    return [
        Case("cut at 60 %", making.cut, frames=-1, rate=None, said=("damaged",), error=99, quick=True),
        Case("cut at 60 %, strict", making.cut, {"strict": True}, refused="invalid_input", quick=True),
        Case("200 flipped bytes", making.flipped, frames=-1, rate=None, said=("could be decoded",), error=99),
        Case("200 flipped bytes, strict", making.flipped, {"strict": True}, refused="invalid_input"),
        Case("a hole in a TS", making.hole, frames=-1, rate=None, said=(), error=99, sound=("aac",)),
    ]


def _images() -> list[Case]:
    still = {"frames": 1, "rate": "0", "codec": "png", "colour": None, "error": 1.0}

    def picture(name: str, make: Make, order: Mapping[str, object] | None = None, **promise: object) -> Case:
        return Case(name, make, order if order is not None else {}, **{**still, **promise})  # type: ignore[arg-type]

    return [
        picture("PNG", image("a.png")), picture("JPEG on its side", image("a.jpg", orientation=6), size=(192, 256)),
        picture("PNG of 16 bits", image("a.png", deep=True), bits=16, quick=True),
        picture("PNG of 16 bits with alpha", alpha_png, bits=16),
        picture("TIFF", image("a.tiff"), {"output_format": "tiff"}, codec="tiff"),
        picture("TIFF of 16 bits", image("a.tiff", deep=True), {"output_format": "tiff"}, codec="tiff", bits=16),
        picture("PNG to JPEG", image("a.png"), {"output_format": "jpeg"}, codec="jpeg", error=3),
        picture("PNG to lossless WebP", image("a.png"), {"output_format": "webp", "quality": 100}, codec="webp"),
        picture("16 bits to WebP", image("a.png", deep=True), {"output_format": "webp", "quality": 100}, codec="webp",
                said=("16 bits per sample are reduced to 8",)),
        picture("PNG in bars", image("a.png"), {"width": 300, "height": 192}, size=(300, 192), error=99),
        picture("16-bit JPEG", image("a.png"), {"output_format": "jpeg", "bit_depth": 16}, refused="invalid_parameter"),
        Case("folder of PNGs", making.folder, {"frame_rate": 12.5}, frames=7, rate="25/2", quick=True),
        Case("folder of PNGs of 16 bits to ffv1", making.deep_folder, {"codec": "ffv1"}, frames=3, codec="ffv1",
             bits=16, colour=RGB, error=1),
    ]  # fmt: skip


CASES = (*_rates(), *_times(), *_kinds(), *_geometry(), *_tracks(), *_colours(), *_outputs(), *_sizes(), *_damage(),
         *_images())  # fmt: skip
