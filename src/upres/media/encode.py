"""Frames into an H.264 file, and that file together with its source's sound. Knows nothing of models or tasks.

The caller publishes: what is written here is an intermediate or `.part` file, synced but not renamed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from upres.errors import InvalidParameter, MediaFailed
from upres.media.decode import SCALE_FLAGS
from upres.media.ffmpeg import STALL_S, FfmpegProcess
from upres.media.inspector import UNKNOWN_CODEC
from upres.media.probe import CONTAINERS, MediaInfo

ENCODER_THREADS = min(16, os.cpu_count() or 1)  # each of x264's frame threads holds frames of its own
SYNC_BYTES_PER_S = 20e6  # the slowest disk we wait for while faststart moves a finished file, silently
COPIED_SOUND = ("aac", "mp3", "mp2", "ac3", "eac3", "dts", "alac", "flac", "opus")  # MP4 holds them, players know them
TEXT_SUBTITLES = ("mov_text", "subrip", "ass", "ssa", "webvtt", "text")
# set on the frames: ffmpeg 9 lets untagged frames overrule -color_primaries and -color_trc (measured)
BT709_TAGS = "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=tv"


class FrameWriter:
    """`with FrameWriter(path, …) as writer: writer.write(frames)` takes `T H W C`, uint8, RGB; T is free.

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
        crf: int = 18,
        preset: str = "medium",
        stall_s: float = STALL_S,
    ) -> None:
        if width < 2 or height < 2 or width % 2 or height % 2:
            raise InvalidParameter(f"{width}x{height} cannot be written as 4:2:0", remedy="use even sizes from 2x2 on")
        if fps <= 0 or sample_aspect <= 0:
            raise InvalidParameter(f"fps={fps}, sample_aspect={sample_aspect}", remedy="use values above 0")
        self._path, self._shape = path.absolute(), (height, width, 3)
        arguments = encoder_arguments(self._path, width, height, fps, sample_aspect, crf, preset)
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
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != self._shape:
            raise InvalidParameter(
                f"frames are {frames.dtype} {frames.shape}",
                remedy=f"give uint8 (T, {', '.join(map(str, self._shape))})",
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
    path: Path, width: int, height: int, fps: Fraction, sample_aspect: Fraction, crf: int, preset: str
) -> list[str]:
    """MP4 because its time base is a multiple of the rate: Matroska's milliseconds would lose 24000/1001."""
    to_yuv = f"scale=in_range=pc:out_color_matrix=bt709:out_range=tv:flags={SCALE_FLAGS},format=yuv420p"
    return [
        "-f", "rawvideo", "-pix_fmt", "rgb24", "-video_size", f"{width}x{height}",
        "-framerate", f"{fps.numerator}/{fps.denominator}", "-i", "pipe:0",
        "-vf", f"{to_yuv},{BT709_TAGS},setsar={sample_aspect.numerator}/{sample_aspect.denominator}:max=65535",
        "-fps_mode", "passthrough", "-c:v", "libx264", "-preset", preset, "-crf", str(crf),
        "-threads", str(ENCODER_THREADS), "-pix_fmt", "yuv420p", "-f", "mp4", "-y", f"file:{path}",
    ]  # fmt: skip


def mux(video: Path, source: MediaInfo, output: Path, *, stall_s: float = STALL_S) -> tuple[str, ...]:
    """Writes `output` (MP4): the picture of `video`; sound, text subtitles, chapters and tags of `source`.

    Returns a warning for each track that could not be carried as it is. Raises MediaFailed or DiskFull and leaves no
    `output` then.
    """
    sound, sound_warnings = _sound_arguments(source)
    subtitles, subtitle_warnings = _subtitle_arguments(source)
    size_bytes = video.stat().st_size + source.path.stat().st_size
    process = FfmpegProcess(
        _mux_arguments(video, source, output, [*sound, *subtitles]),
        doing=f"adding the sound of {source.path.name}",
        stall_s=stall_s + size_bytes / SYNC_BYTES_PER_S,
    )
    complete = False
    try:
        with process:
            process.finish()
        sync(output)
        complete = True
    finally:
        if not complete:
            output.unlink(missing_ok=True)
    return (*sound_warnings, *subtitle_warnings)


def _mux_arguments(video: Path, source: MediaInfo, output: Path, tracks: Sequence[str]) -> list[str]:
    """Both inputs are moved so that the source's first picture or sound is at 0 and the others keep their distance.

    -copyts: without it ffmpeg moves each file to 0 by itself, counting tracks that are not carried.
    """
    picture_delay_s = source.picture_start_s - source.media_start_s
    return [
        "-copyts",
        "-protocol_whitelist", "file", "-itsoffset", _seconds(picture_delay_s), "-i", f"file:{video.absolute()}",
        "-protocol_whitelist", "file", "-format_whitelist", CONTAINERS,
        "-itsoffset", _seconds(-source.media_start_s), "-i", f"file:{source.path}",
        "-map", "0:v:0", "-c:v", "copy", *tracks, "-map_metadata", "1", "-map_chapters", "1",
        "-movflags", "+faststart", "-f", "mp4", "-y", f"file:{output.absolute()}",
    ]  # fmt: skip


def _sound_arguments(source: MediaInfo) -> tuple[list[str], list[str]]:
    arguments: list[str] = []
    warnings: list[str] = []
    carried = 0
    for track, codec in enumerate(source.audio):
        if codec == UNKNOWN_CODEC:
            warnings.append(f"sound track {track + 1} is dropped: its codec is unknown")
            continue
        arguments += ["-map", f"1:a:{track}"]
        if codec in COPIED_SOUND:
            arguments += [f"-c:a:{carried}", "copy"]
        else:
            arguments += [f"-c:a:{carried}", "aac", f"-b:a:{carried}", "192k"]
            warnings.append(f"sound track {track + 1} ({codec}) is converted to AAC")
        carried += 1
    return arguments, warnings


def _subtitle_arguments(source: MediaInfo) -> tuple[list[str], list[str]]:
    arguments: list[str] = []
    warnings: list[str] = []
    for track, codec in enumerate(source.subtitles):
        if codec in TEXT_SUBTITLES:
            arguments += ["-map", f"1:s:{track}", "-c:s", "mov_text"]
        else:
            warnings.append(f"subtitle track {track + 1} ({codec}) is dropped: MP4 cannot hold it")
    return arguments, warnings


def _seconds(time_s: Fraction) -> str:
    return f"{float(time_s):.6f}"  # ffmpeg counts offsets in microseconds


def sync(path: Path) -> None:
    """The data is on the disk when this returns; a rename after it cannot leave an empty file behind."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
