"""What will be written: codec, container, depth, colour, all settled before the work starts. Writes nothing itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from upres.errors import InvalidInput, InvalidParameter, UnsupportedMedia
from upres.media.codecs import (
    CONTAINERS,
    DEEP_IMAGE_FORMATS,
    DEFAULT_CODECS,
    IMAGE_FORMATS,
    NVENC,
    NVENC_10_BITS,
    SUFFIXES,
    VIDEO_CODECS,
    VideoCodec,
    nvenc_writes,
)
from upres.media.probe import MediaInfo
from upres.tasks import Preset, TaskSpec

SOUND_BYTES_PER_S = 60_000
# of photographs, 8 bits a sample, with what ought to be kept free for them: PNG's are 1.9 (measured), at most 3
IMAGE_BYTES_A_PIXEL = {"png": 3.0, "jpeg": 1.0, "webp": 1.0, "tiff": 3.0}
LIKELY_SHARE = 1 / 1.5  # of what is kept free: H.264 at CRF 18 takes 0.10 to 0.25 bits a pixel on restored film
RAW_BITS_A_PIXEL = 24.0


@dataclass(frozen=True, slots=True)
class Colour:
    """As ffmpeg spells them: what the written samples mean."""

    primaries: str = "bt709"
    transfer: str = "bt709"
    matrix: str = "bt709"


@dataclass(frozen=True, slots=True)
class Output:
    """A video's picture as it will be written, or an image (`codec` is empty then)."""

    codec: str
    output_format: str  # container or image format
    bits: int  # a sample
    crf: int | None = None
    quality: int = 90
    colour: Colour = Colour()
    hdr: bool = False  # PQ or HLG is carried as it is
    mastering: str = ""  # of a PQ source, in x265's spelling
    light_level: str = ""
    nvenc: bool = False
    preset: Preset = "medium"
    warnings: tuple[str, ...] = ()

    @property
    def suffix(self) -> str:
        return IMAGE_FORMATS[self.output_format] if not self.codec else f".{self.output_format}"

    @property
    def video(self) -> VideoCodec:
        return VIDEO_CODECS[self.codec]

    @property
    def even(self) -> bool:
        return bool(self.codec) and self.video.even

    @property
    def deep(self) -> bool:
        """Do frames travel as 16-bit samples?"""
        return self.bits > 8

    def check_size(self, width: int, height: int) -> None:
        """Raises InvalidParameter for a picture that cannot be written."""
        if not self.codec:
            return
        least = max(self.video.least_side, 2 if self.even else 1)
        if min(width, height) < least or (self.even and (width % 2 or height % 2)):
            raise InvalidParameter(
                f"{width}x{height} cannot be written as {self.codec}",
                remedy=f"use {'even ' if self.even else ''}sizes from {least}x{least} on"
                f"{', or codec=h264' if least > 2 else ''}",
            )

    def result_bytes(self, pixels: int, frames: int, sound_s: float) -> int:
        """What the finished file may take, roughly; `sound_s` is the length of all its tracks together."""
        if not self.codec:
            return round(pixels * IMAGE_BYTES_A_PIXEL[self.output_format] * (2 if self.deep else 1))
        picture = pixels * frames * self._bits_a_pixel() / 8
        return round(picture + sound_s * SOUND_BYTES_PER_S)

    def work_bytes(self, result_bytes: int) -> int:
        """And what is kept beside it until it is published: its segments and, but for a ZIP, the joined picture."""
        if not self.codec:
            return 0
        return result_bytes if self.output_format == "zip" else 2 * result_bytes

    def _bits_a_pixel(self) -> float:
        """Six steps of H.264's crf, and as many of other scales in proportion, halve the bits."""
        codec = self.video
        bits = codec.bits_a_pixel * self.bits / min(codec.pix_fmts)
        if codec.crf is not None and self.crf is not None:
            bits *= 2 ** ((codec.crf - self.crf) * 51 / codec.worst_crf / 6)
        return min(bits, RAW_BITS_A_PIXEL * self.bits / 8)


H264 = Output("h264", "mp4", 8, crf=18)


def output_for(spec: TaskSpec, info: MediaInfo) -> Output:
    """Raises InvalidParameter for what cannot be combined, with what can; InvalidInput and UnsupportedMedia for what
    the order itself refuses: damage, interlaced video. Whether NVENC works is not asked: `auto` is software here.
    """
    if spec.strict and info.damage:
        raise InvalidInput(f"{info.path.name} is damaged ({info.damage}) and strict was asked for",
                           remedy="export it again, or leave out strict to restore it as far as it goes")  # fmt: skip
    wanted = _format(spec, info)
    return _image(spec, info, wanted) if info.kind == "image" else _video(spec, info, wanted)


def _format(spec: TaskSpec, info: MediaInfo) -> str:
    """From output_format and output_path's suffix, which must not contradict each other."""
    known = IMAGE_FORMATS if info.kind == "image" else (*CONTAINERS, "zip")
    wanted = spec.output_format
    if spec.output_path is not None:
        suffix = Path(spec.output_path).suffix.lower()
        by_name = SUFFIXES.get(suffix)
        if by_name not in known:
            path, (best, *others) = Path(spec.output_path), (s for s, name in SUFFIXES.items() if name in known)
            raise InvalidParameter(f"output_path={path.name!r}: a restored {info.kind} cannot be written as "
                                   f"{suffix if suffix else 'a file without suffix'}",
                                   remedy=f"use {path.stem}{best}, or {', '.join(others)}")  # fmt: skip
        if wanted not in ("auto", by_name):
            raise InvalidParameter(f"output_format={wanted} and output_path={Path(spec.output_path).name!r} contradict "
                                   "each other", remedy="leave one of them out")  # fmt: skip
        return str(by_name)
    if wanted != "auto" and wanted not in known:
        raise InvalidParameter(f"output_format={wanted}: the input is a {info.kind}",
                               remedy=f"use {', '.join(known)}")  # fmt: skip
    return wanted


def _image(spec: TaskSpec, info: MediaInfo, wanted: str) -> Output:
    name = "png" if wanted == "auto" else wanted
    if spec.codec != "auto":
        raise InvalidParameter(f"codec={spec.codec}: the input is an image", remedy="use output_format")
    if spec.bit_depth == 10 or (spec.bit_depth == 16 and name not in DEEP_IMAGE_FORMATS):
        raise InvalidParameter(f"bit_depth={spec.bit_depth}: {name.upper()} cannot hold it",
                               remedy=f"all hold 8 bits, {' and '.join(DEEP_IMAGE_FORMATS)} hold 16")  # fmt: skip
    depth = 16 if info.deep and name in DEEP_IMAGE_FORMATS else 8
    bits = depth if spec.bit_depth is None else spec.bit_depth
    warnings = [f"{info.bit_depth} bits per sample are reduced to {bits}"] if info.bit_depth > bits else []
    if info.foreign_profile:
        warnings.append("colours are converted from the image's own profile to sRGB, with 8 bits")
    if info.has_alpha and name == "jpeg":
        warnings.append("the alpha channel is dropped: JPEG has none")
    return Output("", name, bits, quality=spec.quality, warnings=tuple(warnings))


def _video(spec: TaskSpec, info: MediaInfo, wanted: str) -> Output:
    name, container = _codec_and_container(spec, info, wanted)
    codec = VIDEO_CODECS[name]
    bits, nvenc = _bits(spec, info, name), spec.encoder == "nvenc"
    if nvenc and not nvenc_writes(name, bits):
        raise InvalidParameter(f"encoder=nvenc cannot write {name} of {bits} bits",
                               remedy=f"use {', '.join(NVENC)} (10 bits: {', '.join(NVENC_10_BITS)})")  # fmt: skip
    if spec.crf is not None and (codec.crf is None or spec.crf > codec.worst_crf):
        remedy = f"use 0 to {codec.worst_crf}" if codec.crf is not None else f"leave it out: {name} knows no crf"
        raise InvalidParameter(f"crf={spec.crf} cannot be used with {name}", remedy=remedy)
    if info.fps > codec.most_fps and not nvenc:
        raise InvalidParameter(f"{float(info.fps):g} frames/s cannot be written as {name}",
                               remedy=f"its encoder takes {codec.most_fps:g}; use codec=h264 or h265")  # fmt: skip
    hdr = info.hdr and bits > 8
    warnings = _interlaced(spec, info)
    if info.hdr and not hdr:
        warnings.append(f"HDR ({info.transfer}, {info.bit_depth} bits) is tone-mapped to SDR with 8 bits")
    elif info.bit_depth > bits:
        warnings.append(f"{info.bit_depth} bits per sample are reduced to {bits}")
    if container == "zip" and spec.says_frame_rate:
        warnings.append(f"frame_rate={spec.frame_rate:g} is not kept: pictures in a ZIP have none")
    if hdr and info.mastering and name not in ("h265", "av1"):
        warnings.append(f"the mastering display metadata is dropped: {name} is written without it")
    carried = name in ("h265", "av1") and not nvenc
    return Output(
        name, container, bits, crf=codec.crf if spec.crf is None else spec.crf, colour=_colour(info, codec.rgb, hdr),
        hdr=hdr, mastering=info.mastering if hdr and carried else "",
        light_level=info.light_level if hdr and carried else "", nvenc=nvenc,
        preset="medium" if spec.preset == "auto" else spec.preset,
        warnings=tuple(warnings),
    )  # fmt: skip


def _interlaced(spec: TaskSpec, info: MediaInfo) -> list[str]:
    if not info.interlaced:
        return []
    if spec.interlaced == "refuse":
        raise UnsupportedMedia(f"{info.path.name} is interlaced and interlaced=refuse was asked for",
                               remedy="deinterlace it, or use interlaced=deinterlace")  # fmt: skip
    done = "is deinterlaced, each frame of two fields to one" if spec.interlaced == "deinterlace" else (
        "has its fields restored as they are, which combs where something moves")  # fmt: skip
    return [f"the interlaced video {done}"]


def _codec_and_container(spec: TaskSpec, info: MediaInfo, wanted: str) -> tuple[str, str]:
    if spec.codec == "auto":
        depth = info.bit_depth if spec.bit_depth is None else spec.bit_depth
        name = DEFAULT_CODECS.get(wanted, "h264" if depth == 8 else "h265")
    else:
        name = spec.codec
    holders = VIDEO_CODECS[name].containers
    if wanted != "auto" and wanted not in holders:
        raise InvalidParameter(f"{name} cannot be written as {wanted}", remedy=f"use {' or '.join(holders)}")
    return name, holders[0] if wanted == "auto" else wanted


def _bits(spec: TaskSpec, info: MediaInfo, name: str) -> int:
    """What was asked for, else the least depth that holds the input's, else the codec's largest."""
    depths = sorted(VIDEO_CODECS[name].pix_fmts)
    if spec.bit_depth is not None:
        if spec.bit_depth not in depths:
            raise InvalidParameter(f"bit_depth={spec.bit_depth}: {name} cannot hold it",
                                   remedy=f"use {' or '.join(map(str, depths))}")  # fmt: skip
        return spec.bit_depth
    return next((depth for depth in depths if depth >= info.bit_depth), depths[-1])


def _colour(info: MediaInfo, rgb: bool, hdr: bool) -> Colour:
    """Primaries and transfer are carried as they are tagged, samples being converted between matrices alone: BT.2020's
    for its primaries, else BT.709's. What is not tagged is called BT.709, and so is what was tone-mapped.
    """
    if info.hdr and not hdr:
        primaries, transfer = "bt709", "bt709"
    else:
        primaries = "bt709" if info.primaries is None else info.primaries
        transfer = "bt709" if info.transfer is None else info.transfer
    matrix = "bt2020nc" if primaries == "bt2020" else "bt709"
    return Colour(primaries, transfer, "gbr" if rgb else matrix)


