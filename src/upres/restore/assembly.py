"""From finished segments to the finished file. Knows nothing of models or of how the segments came to be."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from upres.media.join import Timing, join, measured, steady
from upres.media.mux import mux
from upres.media.output import Output
from upres.media.probe import MediaInfo
from upres.restore.segments import Segments


def assemble(info: MediaInfo, segments: Segments, path: Path, output: Output) -> tuple[str, ...]:
    """Writes `path`, synced. Returns warnings of what the file does not carry as it was.

    Raises MediaFailed, DiskFull; `path` does not exist then, the segments do.
    """
    timing, fps, start_s, warnings = _timing(info, segments)
    if output.output_format == "zip":
        join(segments.paths, path, timing, output)
        return (*warnings, *_not_in_a_zip(info))
    picture = segments.folder / "picture.part"
    try:
        join(segments.paths, picture, timing, output)
        return (*warnings, *mux(picture, info, path, output, picture_start_s=start_s, fps=fps))
    finally:
        picture.unlink(missing_ok=True)


def _timing(info: MediaInfo, segments: Segments) -> tuple[Timing, Fraction | None, Fraction, tuple[str, ...]]:
    """With the rate, if it is steady, and the container time of the first frame.

    Frames of a steady rate that are all there are counted, which is exact; any others keep the times they had.
    """
    times, time_base = segments.times
    if not info.variable_frame_rate and segments.frames == info.frames:
        return steady(segments.frames, info.fps), info.fps, info.picture_start_s, ()
    timing = measured(times, time_base)
    if timing is None:
        rate = f"{float(info.fps):.3f} frames per second"
        return (steady(segments.frames, info.fps), info.fps, info.picture_start_s,
                (f"the times of the frames do not ascend; the result has {rate}",))  # fmt: skip
    return timing, None, times[0] * time_base, ()


def _not_in_a_zip(info: MediaInfo) -> tuple[str, ...]:
    tracks = [f"{len(found)} {kind} track{'s' if len(found) > 1 else ''}"
              for kind, found in (("sound", info.audio), ("subtitle", info.subtitles)) if found]  # fmt: skip
    return (f"{' and '.join(tracks)} dropped: pictures in a ZIP have none",) if tracks else ()
