"""Segments of one picture into one file, packet by packet, each frame at its time. Nothing is encoded again.

Only reads what Upres itself wrote, so it may use libav in this process. Knows nothing of sound or tasks.
"""

from __future__ import annotations

import errno
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av

from upres.errors import DiskFull, MediaFailed
from upres.media.codecs import CONTAINERS, IMAGE_FORMATS
from upres.media.encode import sync
from upres.media.output import Output


@dataclass(frozen=True, slots=True)
class Timing:
    """`ticks` of `time_base` seconds, ascending, the first frame at 0; the last one is shown for `last` of them."""

    ticks: Sequence[int]
    time_base: Fraction
    last: int


def steady(frames: int, fps: Fraction) -> Timing:
    """Frame n at n / fps, exactly."""
    step = fps.denominator
    return Timing(range(0, frames * step, step), Fraction(1, fps.numerator), step)


def measured(times: Sequence[int], time_base: Fraction) -> Timing | None:
    """Frames at the container times they had; None if these do not ascend and so cannot be theirs."""
    if any(after <= before for before, after in pairwise(times)):
        return None
    return Timing([time - times[0] for time in times], time_base, times[-1] - times[-2] if len(times) > 1 else 1)


def join(segments: Sequence[Path], path: Path, timing: Timing, output: Output) -> None:
    """Writes `path`, synced: an MP4, MOV, MKV or WebM without sound, or a ZIP of pictures. Leaves no file on failure.

    Raises DiskFull; MediaFailed if the segments do not hold as many frames as there are times.
    """
    complete = False
    try:
        if output.output_format == "zip":
            _zip(segments, path, IMAGE_FORMATS[output.codec], len(timing.ticks))
        else:
            _mux(segments, path, timing, CONTAINERS[output.output_format].muxer)
        sync(path)
        complete = True
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"joining {path.name}: the disk is full", remedy="free some space and try again") from error
        raise
    finally:
        if not complete:
            path.unlink(missing_ok=True)


def _mux(segments: Sequence[Path], path: Path, timing: Timing, muxer: str) -> None:
    orders = [_shown_order(segment) for segment in segments]
    frames = sum(map(len, orders))
    if frames != len(timing.ticks):
        raise MediaFailed(f"the segments of {path.name} hold {frames} frames, {len(timing.ticks)} are due")
    delay = max(coded - shown for order in orders for coded, shown in enumerate(order))
    first, coded = 0, 0
    with av.open(str(path), "w", format=muxer) as container:
        stream: Any = None
        for segment, order in zip(segments, orders, strict=True):
            with av.open(str(segment)) as source:
                if stream is None:
                    stream = container.add_stream_from_template(source.streams.video[0], opaque=True)
                    stream.time_base = timing.time_base
                for shown, packet in zip(order, _packets(source), strict=True):
                    _place(packet, first + shown, coded - delay, timing)
                    packet.stream = stream
                    container.mux(packet)
                    coded += 1
            first += len(order)


def _place(packet: Any, shown: int, decoded: int, timing: Timing) -> None:
    """A frame is decoded when the one `delay` places before it is shown: never later than it is shown itself."""
    ticks = timing.ticks
    packet.pts = ticks[shown]
    packet.dts = ticks[decoded] if decoded >= 0 else decoded * (ticks[1] - ticks[0])
    packet.duration = ticks[shown + 1] - ticks[shown] if shown + 1 < len(ticks) else timing.last
    packet.time_base = timing.time_base


def _shown_order(segment: Path) -> list[int]:
    """For each packet in its order of decoding: the place at which its frame is shown."""
    with av.open(str(segment)) as source:
        times = [packet.pts for packet in _packets(source)]
    places = {time: place for place, time in enumerate(sorted(times))}
    return [places[time] for time in times]


def _packets(source: Any) -> Iterator[Any]:
    return (packet for packet in source.demux(video=0) if packet.size)


def _zip(segments: Sequence[Path], path: Path, suffix: str, frames: int) -> None:
    """Each packet is a whole picture file. Stored, not compressed: they are already."""
    number = 0
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for segment in segments:
            with av.open(str(segment)) as source:
                for packet in _packets(source):
                    number += 1
                    archive.writestr(zipfile.ZipInfo(f"{number:08}{suffix}"), bytes(packet))
    if number != frames:
        raise MediaFailed(f"the segments of {path.name} hold {number} frames, {frames} are due")
