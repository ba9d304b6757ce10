"""The restored picture together with everything else its source holds. Knows nothing of frames or models."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from upres.media.codecs import CONTAINERS as HOLDERS
from upres.media.codecs import Container
from upres.media.encode import sync
from upres.media.ffmpeg import STALL_S, FfmpegProcess
from upres.media.inspector import UNKNOWN_CODEC
from upres.media.output import H264, Output
from upres.media.probe import CONTAINERS, MediaInfo

SYNC_BYTES_PER_S = 20e6  # the slowest disk we wait for while faststart moves a finished file, silently
SOUND_BITRATES = {"aac": "192k", "libopus": "160k"}


def mux(
    video: Path, source: MediaInfo, path: Path, output: Output = H264, *,
    picture_start_s: Fraction | None = None, fps: Fraction | None = None, stall_s: float = STALL_S,
) -> tuple[str, ...]:  # fmt: skip
    """Writes `path`: the picture of `video`; sound, subtitles, chapters and tags of `source`.

    `picture_start_s` is the container time of the first frame that was decoded, where that is not the source's first;
    `fps` the rate of a steady picture: Matroska's milliseconds do not tell it.
    Returns a warning for each track that could not be carried as it is. Raises MediaFailed or DiskFull and leaves no
    file then.
    """
    holder = HOLDERS[output.output_format]
    rate = ["-r:v", f"{fps.numerator}/{fps.denominator}"] if fps is not None else []
    sound, sound_warnings = _sound_arguments(source, holder, output.output_format)
    subtitles, subtitle_warnings = _subtitle_arguments(source, holder, output.output_format)
    start_s = source.picture_start_s if picture_start_s is None else picture_start_s
    size_bytes = video.stat().st_size + source.path.stat().st_size
    process = FfmpegProcess(
        _arguments(video, source, start_s - source.media_start_s, path, output, [*rate, *sound, *subtitles]),
        doing=f"adding the sound of {source.path.name}",
        stall_s=stall_s + size_bytes / SYNC_BYTES_PER_S,
    )
    complete = False
    try:
        with process:
            process.finish()
        sync(path)
        complete = True
    finally:
        if not complete:
            path.unlink(missing_ok=True)
    return (*sound_warnings, *subtitle_warnings)


def _arguments(
    video: Path, source: MediaInfo, picture_delay_s: Fraction, path: Path, output: Output, tracks: Sequence[str]
) -> list[str]:
    """Both inputs are moved so that the source's first picture or sound is at 0 and the others keep their distance.

    -copyts: without it ffmpeg moves each file to 0 by itself, counting tracks that are not carried.
    """
    holder = HOLDERS[output.output_format]
    original = [] if source.files else [
        "-protocol_whitelist", "file", "-format_whitelist", CONTAINERS,
        "-itsoffset", _seconds(-source.media_start_s), "-i", f"file:{source.path}",
    ]  # fmt: skip
    carried = [] if source.files else ["-map_metadata", "1", "-map_chapters", "1"]
    tag = ["-tag:v", output.video.tag] if output.video.tag and output.output_format in ("mp4", "mov") else []
    return [
        "-copyts",
        "-protocol_whitelist", "file", "-itsoffset", _seconds(picture_delay_s), "-i", f"file:{video.absolute()}",
        *original, "-map", "0:v:0", "-c:v", "copy", *tag, *tracks, *carried,
        *holder.options, "-f", holder.muxer, "-y", f"file:{path.absolute()}",
    ]  # fmt: skip


def _sound_arguments(source: MediaInfo, holder: Container, name: str) -> tuple[list[str], list[str]]:
    arguments: list[str] = []
    warnings: list[str] = []
    carried = 0
    for track, codec in enumerate(source.audio):
        if codec == UNKNOWN_CODEC:
            warnings.append(f"sound track {track + 1} is dropped: its codec is unknown")
            continue
        arguments += ["-map", f"1:a:{track}"]
        if _held(codec, holder):
            arguments += [f"-c:a:{carried}", "copy"]
        else:
            arguments += [f"-c:a:{carried}", holder.sound_codec, f"-b:a:{carried}", SOUND_BITRATES[holder.sound_codec]]
            becomes = holder.sound_codec.removeprefix("lib")
            warnings.append(f"sound track {track + 1} ({codec}) is converted to {becomes.upper()}: {name.upper()} "
                            "does not hold it")  # fmt: skip
        carried += 1
    return arguments, warnings


def carried_sound(source: MediaInfo, output: Output) -> tuple[str, ...]:
    """The codecs of the sound tracks that the result has."""
    if output.output_format not in HOLDERS:
        return ()
    holder = HOLDERS[output.output_format]
    return tuple(codec if _held(codec, holder) else holder.sound_codec.removeprefix("lib")
                 for codec in source.audio if codec != UNKNOWN_CODEC)  # fmt: skip


def _held(codec: str, holder: Container) -> bool:
    return not holder.sound or codec in holder.sound


def _subtitle_arguments(source: MediaInfo, holder: Container, name: str) -> tuple[list[str], list[str]]:
    arguments: list[str] = []
    warnings: list[str] = []
    carried = 0
    for track, codec in enumerate(source.subtitles):
        if codec in holder.subtitles:
            arguments += ["-map", f"1:s:{track}", f"-c:s:{carried}", holder.subtitles[codec]]
            carried += 1
        else:
            warnings.append(f"subtitle track {track + 1} ({codec}) is dropped: {name.upper()} cannot hold it")
    return arguments, warnings


def _seconds(time_s: Fraction) -> str:
    return f"{float(time_s):.6f}"  # ffmpeg counts offsets in microseconds
