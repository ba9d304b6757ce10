"""Frames into a picture file of any codec of ours. Knows nothing of models, tasks or sound.

The caller publishes: what is written here is a segment or `.part` file, synced but not renamed.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from upres.errors import InvalidParameter, MediaFailed
from upres.media.codecs import NVENC, PRESETS, nvenc_arguments
from upres.media.ffmpeg import STALL_S, FfmpegProcess
from upres.media.output import H264, Colour, Output

ENCODER_THREADS = min(16, os.cpu_count() or 1)  # each of x264's frame threads holds frames of its own
SAYS_CHROMA = ("h264", "h265", "av1")  # where it lies, by their software encoders; VP9 leaves it to the container
SETPARAMS_TRANSFERS = {"gamma22": "bt470m", "gamma28": "bt470bg"}  # the one name the filter knows them by


@dataclass(frozen=True, slots=True)
class Framing:
    """The file's picture around or within the frames that are written: black bars, or a cut from the middle."""

    width: int
    height: int
    bars: bool

    def filter(self) -> str:
        """Offsets are even: chroma samples stay where they are."""
        if self.bars:
            return f"pad={self.width}:{self.height}:trunc((ow-iw)/4)*2:trunc((oh-ih)/4)*2:black,"
        return f"crop={self.width}:{self.height}:trunc((iw-ow)/4)*2:trunc((ih-oh)/4)*2,"


class FrameWriter:
    """`with FrameWriter(path, …) as writer: writer.write(frames)` takes `T H W C`, RGB; T is free; uint8, or uint16
    where `output.deep`.

    Leaving it normally means the file holds every frame and is synced; in any other case there is no file. Enter it in
    a long-living thread (see FfmpegProcess); write in any one; `close` from any other ends a blocked write.
    """

    def __init__(
        self,
        path: Path,
        *,
        width: int,
        height: int,
        fps: Fraction,
        sample_aspect: Fraction = Fraction(1),
        output: Output = H264,
        framing: Framing | None = None,
        stall_s: float = STALL_S,
    ) -> None:
        output.check_size(*((width, height) if framing is None else (framing.width, framing.height)))
        if fps <= 0 or sample_aspect <= 0:
            raise InvalidParameter(f"fps={fps}, sample_aspect={sample_aspect}", remedy="use values above 0")
        self._path, self._shape = path.absolute(), (height, width, 3)
        self._dtype = np.dtype("<u2" if output.deep else np.uint8)
        arguments = encoder_arguments(self._path, width, height, fps, sample_aspect, output, framing)
        self._process = FfmpegProcess(arguments, doing=f"writing {path.name}", feeds=True, stall_s=stall_s)
        self.frames_written = 0

    def __enter__(self) -> Self:
        self._process.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        complete = False
        try:
            if kind is None:
                self._finish()
                complete = True
        finally:
            self._process.__exit__(kind, error, trace)
            if not complete:
                self._path.unlink(missing_ok=True)

    def write(self, frames: np.ndarray) -> None:
        if frames.dtype != self._dtype or frames.ndim != 4 or frames.shape[1:] != self._shape:
            raise InvalidParameter(
                f"frames are {frames.dtype} {frames.shape}",
                remedy=f"give {self._dtype} (T, {', '.join(map(str, self._shape))})",
            )
        if len(frames):
            self._process.write(np.ascontiguousarray(frames).data.cast("B"))
            self.frames_written += len(frames)

    def close(self) -> None:
        self._process.close()

    def _finish(self) -> None:
        if not self.frames_written:
            raise MediaFailed(f"{self._path.name}: no frame was written")
        self._process.finish()
        if self._process.frames_reported != self.frames_written:
            raise MediaFailed(
                f"{self._path.name} holds {self._process.frames_reported} frames of {self.frames_written} given"
            )
        sync(self._path)


def encoder_arguments(
    path: Path, width: int, height: int, fps: Fraction, sample_aspect: Fraction, output: Output,
    framing: Framing | None = None,
) -> list[str]:  # fmt: skip
    pixels = "rgb48le" if output.deep else "rgb24"
    around = framing.filter() if framing is not None else ""
    return [
        "-f", "rawvideo", "-pix_fmt", pixels, "-video_size", f"{width}x{height}",
        "-framerate", f"{fps.numerator}/{fps.denominator}", "-i", "pipe:0",
        "-vf", f"{around}{_to_coded(output)},setsar={sample_aspect.numerator}/{sample_aspect.denominator}:max=65535",
        "-fps_mode", "passthrough", *codec_arguments(output), "-threads", str(ENCODER_THREADS),
        "-f", _muxer(output), "-y", f"file:{path}",
    ]  # fmt: skip


def _to_coded(output: Output) -> str:
    """By zscale: why not by swscale, decode says. Chroma lies left, which is what most codecs mean untagged; with
    BT.2020's matrix top left, as ITU-R BT.2020 and BT.2100 have it, where the stream itself says so.

    Tags are set on the frames: ffmpeg 9 lets untagged frames overrule -color_primaries and -color_trc (measured).
    """
    pix_fmt, colour = output.video.pix_fmts[output.bits], output.colour
    if output.video.rgb and not output.deep:
        return f"format={pix_fmt},{_tags(colour, 'pc')}"
    planes = "gbrp16le" if output.deep else "gbrp"
    from_rgb = f"format={planes},zscale=matrixin=gbr:rangein=full:filter=bicubic:dither=none"
    if output.video.rgb:
        return f"{from_rgb}:matrix=gbr:range=full,format={pix_fmt},{_tags(colour, 'pc')}"
    wide = colour.matrix == "bt2020nc"
    chroma = "topleft" if wide and output.codec in SAYS_CHROMA and not output.nvenc else "left"
    return (f"{from_rgb}:matrix={'2020_ncl' if wide else '709'}:range=limited:chromal={chroma},format={pix_fmt},"
            f"{_tags(colour, 'tv')}:chroma_location={chroma}")  # fmt: skip


def _tags(colour: Colour, color_range: str) -> str:
    transfer = SETPARAMS_TRANSFERS.get(colour.transfer, colour.transfer)
    return (f"setparams=colorspace={colour.matrix}:color_primaries={colour.primaries}:color_trc={transfer}"
            f":range={color_range}")  # fmt: skip


def codec_arguments(output: Output) -> list[str]:
    codec = output.video
    if output.nvenc:
        return ["-c:v", NVENC[output.codec], "-cq", str(output.crf), *nvenc_arguments(output.bits, output.preset)]
    crf = ["-crf", str(output.crf)] if output.crf is not None else []
    speed = [codec.speed, codec.speeds[PRESETS.index(output.preset)]] if codec.speed else []
    return ["-c:v", codec.encoder, *codec.arguments, *speed, *crf, *_metadata(output),
            "-pix_fmt", codec.pix_fmts[output.bits]]  # fmt: skip


def _metadata(output: Output) -> list[str]:
    """How x265 and SVT-AV1 are told what HDR10's static metadata say, and to be quiet."""
    if output.codec == "h265":
        given = [f"master-display={output.mastering}" if output.mastering else "",
                 f"max-cll={output.light_level}" if output.light_level else "", "log-level=error"]  # fmt: skip
        return ["-x265-params", ":".join(part for part in given if part)]
    if output.codec == "av1" and (output.mastering or output.light_level):
        given = [f"mastering-display={_in_units(output.mastering)}" if output.mastering else "",
                 f"content-light={output.light_level}" if output.light_level else ""]  # fmt: skip
        return ["-svtav1-params", ":".join(part for part in given if part)]
    return []


def _in_units(mastering: str) -> str:
    """x265 counts chromaticities in 1/50000 and luminance in 1/10000 cd/m2; SVT-AV1 wants the numbers themselves."""

    def plain(pair: re.Match[str]) -> str:
        unit = 10_000 if pair[1] == "L" else 50_000
        return f"{pair[1]}({int(pair[2]) / unit:.4f},{int(pair[3]) / unit:.4f})"

    return re.sub(r"([A-Z]+)\((\d+),(\d+)\)", plain, mastering)


def _muxer(output: Output) -> str:
    return {"mkv": "matroska"}.get(output.video.segment, output.video.segment)


def sync(path: Path) -> None:
    """The data is on the disk when this returns; a rename after it cannot leave an empty file behind."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
