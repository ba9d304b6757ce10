"""What a finished file really is, found out without Upres where that is possible. Judges nothing."""

from __future__ import annotations

import io
import itertools
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from upres.media.decode import FrameReader, Reading
from upres.media.ffmpeg import ffmpeg_path
from upres.media.images import read_image
from upres.media.inspector import MATRIX, PRIMARIES, RANGE, TRANSFER
from upres.media.probe import probe


@dataclass(frozen=True)
class Measured:
    frames: int
    rate: str  # "varies" unless every frame is within a rounding of number / rate
    size: tuple[int, int]  # width, height
    codec: str
    pix_fmt: str
    bits: int
    colour: tuple[str | None, ...]  # range, primaries, transfer, matrix
    sound: tuple[str, ...]
    subtitles: tuple[str, ...]
    aspect: str
    times: tuple[Fraction, ...]  # seconds of each frame, the first at 0
    starts: tuple[Fraction, Fraction] | None  # of picture and first sound
    chapters: int
    title: str


def measure(path: Path) -> Measured:
    if path.suffix == ".zip" or zipfile.is_zipfile(path):
        return _measure_zip(path)
    if path.suffix in (".png", ".jpg", ".jpeg", ".webp", ".tiff"):
        return _measure_image(path)
    with av.open(str(path)) as container:
        stream = next(s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic)
        frames = list(_decoded(container, stream))
        base = stream.time_base
        first, times = frames[0], tuple((f.pts - frames[0].pts) * base for f in frames)
        starts = None
        if container.streams.audio:
            sound = container.streams.audio[0]
            starts = (frames[0].pts * base, sound.start_time * sound.time_base)
        context = stream.codec_context
        return Measured(
            frames=len(frames), rate=_rate(times, base, stream), size=(first.width, first.height),
            codec=context.codec.canonical_name, pix_fmt=first.format.name,
            bits=max(part.bits for part in first.format.components),
            colour=_colour(first, context),
            sound=tuple(s.codec_context.codec.canonical_name for s in container.streams.audio),
            subtitles=tuple(s.codec_context.codec.canonical_name for s in container.streams.subtitles),
            aspect=str(stream.sample_aspect_ratio or Fraction(1)), times=times, starts=starts,
            chapters=len(container.chapters()), title=container.metadata.get("title", ""),
        )  # fmt: skip


def _decoded(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    """What can be decoded of a damaged file."""
    with suppress(av.error.FFmpegError):
        for packet in container.demux(stream):
            with suppress(av.error.FFmpegError):
                yield from packet.decode()


def shown_times(path: Path) -> list[Fraction]:
    """Of every packet of the picture, whether it can be decoded or not, the first at 0."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        times = sorted(packet.pts * stream.time_base for packet in container.demux(stream) if packet.pts is not None)
    return [time - times[0] for time in times]


def _colour(frame: av.VideoFrame, context: av.VideoCodecContext) -> tuple[str | None, ...]:
    """What the picture says, or else its container."""
    tables = (("color_primaries", PRIMARIES), ("color_trc", TRANSFER), ("colorspace", MATRIX))
    named = (table.get(getattr(frame, field), table.get(getattr(context, field))) for field, table in tables)
    return RANGE.get(frame.color_range), *named


def _rate(times: tuple[Fraction, ...], base: Fraction, stream: av.VideoStream) -> str:
    if len(times) == 1:
        return str(stream.average_rate or stream.guessed_rate)
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and all(abs(time - number / Fraction(rate)) <= base for number, time in enumerate(times)):
            return str(Fraction(rate))
    return "varies"


def _measure_zip(path: Path) -> Measured:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        one = _measure_bytes(archive.read(names[0]))
    return Measured(len(names), "24", *one, times=tuple(Fraction(n, 24) for n in range(len(names))), starts=None,
                    chapters=0, title="")  # fmt: skip


def _measure_image(path: Path) -> Measured:
    return Measured(1, "0", *_measure_bytes(path.read_bytes()), times=(Fraction(0),), starts=None, chapters=0, title="")


def _measure_bytes(data: bytes) -> tuple[object, ...]:
    with Image.open(io.BytesIO(data)) as image:
        bits = data[24] if image.format == "PNG" else 8
        if image.format == "TIFF":
            bits = image.tag_v2[258][0]
        return image.size, image.format.lower(), image.mode, bits, (None,) * 4, (), (), "1"


def pixels(path: Path) -> np.ndarray:
    """`T H W 3`, 0…255 as float: samples as they are coded, not tone-mapped."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return np.stack([_still(archive.read(name), path.parent / name) for name in archive.namelist()])
    if path.is_dir():
        files = sorted(path.iterdir(), key=lambda file: int(file.stem))
        return np.stack([read_image(probe(file), deep=True)[..., :3] / 257.0 for file in files])
    info = probe(path)
    if info.kind == "image":
        return read_image(info, deep=True)[None, ..., :3] / 257.0
    with FrameReader(info, how=Reading(deep=True, tone_map=False, deinterlace=info.interlaced)) as reader:
        return np.concatenate(list(reader)) / 257.0


def _still(data: bytes, path: Path) -> np.ndarray:
    path.write_bytes(data)
    return read_image(probe(path), deep=True)[..., :3] / 257.0


def distance(source: np.ndarray, result: np.ndarray) -> float:
    """Mean difference, 8-bit levels, after both were brought to a small common grid, frame by frame."""
    grid = (min(16, source.shape[1], result.shape[1]), min(16, source.shape[2], result.shape[2]))
    return float(np.abs(_shrunk(source, grid) - _shrunk(result, grid)).mean())


def _shrunk(frames: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    def pool(values: np.ndarray, axis: int, parts: int) -> np.ndarray:
        edges = np.linspace(0, values.shape[axis], parts + 1)
        return np.stack([np.take(values, range(int(a), max(int(a) + 1, int(b))), axis).mean(axis)
                         for a, b in itertools.pairwise(edges)], axis)  # fmt: skip

    return pool(pool(frames.astype(np.float32), 1, grid[0]), 2, grid[1])


def flash_and_beep_s(path: Path) -> tuple[list[float], list[float]]:
    """When the picture flashes and when the sound begins to beep, seconds on one clock."""
    with av.open(str(path)) as container:
        shown = [(float(f.pts * f.time_base), f.to_ndarray(format="gray").mean()) for f in container.decode(video=0)]
    flashes = [time for (_, before), (time, now) in zip([(0, 0.0), *shown], shown, strict=False) if now > 128 > before]
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        start = float(next(container.decode(stream)).time)
    raw = subprocess.run([ffmpeg_path(), "-v", "error", "-i", path, "-map", "0:a:0", "-ac", "1", "-ar", "48000", "-f",
                          "f32le", "-"], check=True, capture_output=True).stdout  # fmt: skip
    loud = np.abs(np.frombuffer(raw[: len(raw) // 192 * 192], np.float32)).reshape(-1, 48).max(1) > 0.1
    beeps, quiet = [], 1000
    for number, now in enumerate(loud):  # milliseconds
        if now and quiet >= 300:
            beeps.append(start + number / 1000)
        quiet = 0 if now else quiet + 1
    return flashes, beeps
