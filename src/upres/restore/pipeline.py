"""The way of a frame: probe, plan, decode, model, colour, encode. Knows nothing of stores or which model it drives.

Three threads (reader, this one, writer) and two bounded queues: memory does not grow with the clip.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch import Tensor

from upres.errors import MediaFailed
from upres.media.decode import Reading, decoder_arguments
from upres.media.encode import FrameWriter, Framing, encoder_arguments
from upres.media.ffmpeg import ffmpeg_path
from upres.media.folder import open_reader
from upres.media.images import framed, read_image, write_image
from upres.media.mux import carried_sound
from upres.media.output import Output, output_for
from upres.media.probe import MediaInfo, probe
from upres.models.restorer import Restorer
from upres.restore.assembly import assemble
from upres.restore.descent import Descent
from upres.restore.frames import descent_for, open_stream, restored_pixels
from upres.restore.framing import wants_exact
from upres.restore.meter import Meter, Report
from upres.restore.plan import Plan, Size, plan_clip
from upres.restore.segments import Piece, Segments, SegmentSink, file_identity
from upres.restore.stages import ReadAhead, WriteBehind
from upres.restore.tensors import Samples, as_pixels, as_samples, enlarge, to_bytes, to_pixels, to_words
from upres.restore.transfers import Arriving, Leaving, Transfers
from upres.tasks import TaskSpec
from upres.version import __version__

SEGMENT_FRAMES = 120


@dataclass(frozen=True, slots=True)
class Outcome:
    size: Size
    frames: int
    suffix: str
    warnings: tuple[str, ...]
    fps: float = 0.0  # 0 of an image
    audio: tuple[str, ...] = ()  # codecs of its sound tracks
    made: int = 1  # frames, by this attempt
    running_s: float = 0.0  # from the first one's return until all were written
    following: int = 0  # frames read in that time


@dataclass(frozen=True, slots=True)
class Job:
    """Everything about one restoration that is settled before its first frame."""

    info: MediaInfo
    plan: Plan
    output: Output
    spec: TaskSpec
    restorer: Restorer
    descent: Descent

    @property
    def reading(self) -> Reading:
        return Reading(deep=self.output.deep, tone_map=not self.output.hdr, strict=self.spec.strict,
                       deinterlace=self.spec.interlaced == "deinterlace")  # fmt: skip

    @property
    def framing(self) -> Framing | None:
        frame = self.plan.frame
        if frame == self.plan.target:
            return None
        return Framing(frame.width, frame.height, bars=self.spec.fit != "crop")

    @property
    def warnings(self) -> tuple[str, ...]:
        return (*self.info.warnings, *self.output.warnings, *self.plan.notes, *self.descent.warnings)

    @property
    def sample_aspect(self) -> Fraction:
        """An exact size has square pixels; any other keeps the shape of the source's."""
        return Fraction(1) if wants_exact(self.spec) else self.info.sample_aspect


def restore(
    spec: TaskSpec, restorer: Restorer, path: Path, report: Report, room_bytes: int | None = None,
    *, work: Path | None = None, model: str = "", segment_frames: int = SEGMENT_FRAMES,
) -> Outcome:  # fmt: skip
    """Writes the restored file to `path`. Whatever is raised, no file is left there and no process runs on.

    A video's finished segments are kept in the folder `work`: the same call goes on from there, if the input and all
    else that makes the result is the same, and so does an equal one with another folder beside it. The caller removes
    the folder. Without one, nothing is kept.
    room_bytes: what may be used of the device's memory, weights included; None: whatever there is. Where a task had to
    step down for lack of memory, its frames are those of that step, and differ from those of a run that had enough.
    Raises OutOfMemory, FileMissing, InvalidInput, UnsupportedMedia, InvalidParameter, MediaFailed, DiskFull, and what
    `report` and the model raise.
    """
    info = probe(Path(spec.input_path), frame_rate=spec.frame_rate)
    output = output_for(spec, info)
    plan = plan_clip(Size(info.height, info.width), info.frames, info.kind, spec, restorer.limits,
                     even=output.even, sample_aspect=info.sample_aspect)  # fmt: skip
    output.check_size(plan.frame.width, plan.frame.height)
    job = Job(info, plan, output, spec, restorer, descent_for(plan, spec, restorer, room_bytes))
    try:
        if info.kind == "image":
            return _restore_image(job, path, report)
        if work is not None:
            return _restore_video(job, path, report, work, model, segment_frames)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            return _restore_video(job, path, report, Path(folder) / "work", model, segment_frames)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _restore_video(
    job: Job, path: Path, report: Report, work: Path, model: str, segment_frames: int
) -> Outcome:  # fmt: skip
    with Segments.held(work, _identity(job, model, segment_frames)) as segments:
        done = Meter(job.plan.frames, segments.frames, report)
        if segments.ending is None:
            _write_segments(job, segments, done, segment_frames)
            done.written()
        done.phase("finishing")
        lost = assemble(job.info, segments, path, job.output)
        ending = segments.ending
    assert ending is not None  # written by now
    warnings = (*job.warnings, *ending.warnings, *lost)
    return Outcome(job.plan.frame, ending.frames, job.output.suffix, warnings, float(job.info.fps),
                   carried_sound(job.info, job.output), done.made, done.running_s, done.following)  # fmt: skip


def _write_segments(job: Job, segments: Segments, done: Meter, least: int) -> None:
    """Decodes from the frame at which the model can begin anew, and writes from the first one that is missing."""
    plan, begin = job.plan, segments.fresh
    lead_in = min(job.restorer.limits.lead_in, begin)
    first = begin - lead_in
    reader = open_reader(job.info, plan.block, dataclasses.replace(job.reading, first=first))
    transfers = Transfers(job.restorer.device)

    def times(number: int, count: int) -> tuple[Sequence[int], Fraction]:
        assert reader.time_base is not None  # a frame was read
        return reader.times[number - first : number - first + count], reader.time_base

    def open_writer(path: Path) -> FrameWriter:
        return FrameWriter(path, width=plan.target.width, height=plan.target.height, fps=job.info.fps,
                           sample_aspect=job.sample_aspect, output=job.output, framing=job.framing)  # fmt: skip

    with (
        reader,
        SegmentSink(segments, job.output.video.segment, open_writer, times, least) as sink,
        ReadAhead(map(transfers.up, reader)) as blocks,
        WriteBehind[_Coming](lambda piece: sink.write(piece.landed()), finish=sink.end) as behind,
    ):
        for piece in _pieces(job, done.taking(blocks), transfers, begin, lead_in, segments.frames):
            behind.put(piece)
            done.add(len(piece.frames))
    read = first + reader.frames_read
    if segments.frames != read:
        raise MediaFailed(f"{read} frames were read and {segments.frames} written")
    segments.end(reader.warnings)


@dataclass(frozen=True, slots=True)
class _Coming:
    """A Piece whose frames may still be on their way from the device."""

    frames: Leaving
    first: int
    fresh: int

    def landed(self) -> Piece:
        return Piece(self.frames.numpy(), self.first, self.fresh)


def _pieces(job: Job, blocks: Iterable[Arriving], transfers: Transfers, begin: int, lead_in: int,
            missing: int) -> Iterator[_Coming]:  # fmt: skip
    """From frame number `missing` on; the model begins anew at `begin`, which may be earlier."""
    stream = open_stream(job.plan, job.spec, job.restorer, job.descent, lead_in)
    fresh, ahead, number = begin, deque[int](), begin  # `ahead`: frames to come at which it will have begun anew
    pixels = (_prepared(as_pixels(block.on_device()), job) for block in blocks)
    for frames in restored_pixels(pixels, job.plan, job.spec, job.restorer, stream=stream, lead_in=lead_in):
        ahead.append(begin + stream.fresh)
        while ahead and ahead[0] <= number:
            fresh = max(fresh, ahead.popleft())
        new = frames[max(0, missing - number) :]
        if len(new):
            samples = transfers.down(as_samples(new, deep=job.output.deep))
            yield _Coming(samples, number + len(frames) - len(new), fresh)
        number += len(frames)


def _identity(job: Job, model: str, segment_frames: int) -> dict[str, Any]:
    """All that the frames of the result depend on."""
    spec = job.spec.model_dump(mode="json", exclude={"input_path", "output_path", "overwrite"})
    target, output = job.plan.target, job.output
    encoder = encoder_arguments(Path("segment"), target.width, target.height, job.info.fps, job.sample_aspect, output,
                                job.framing)  # fmt: skip
    decoder = decoder_arguments(dataclasses.replace(job.info, path=Path("input")), job.reading)
    return {
        "upres": __version__, "ffmpeg": ffmpeg_path().rpartition("/")[2], "spec": spec, "model": model,
        "input": file_identity(job.info.path), "plan": repr(job.plan), "device": job.restorer.device.type,
        "decoder": decoder, "encoder": encoder, "segment_frames": segment_frames,
        "memory": repr(job.descent.plan and (job.descent.plan.window, job.descent.plan.placement)),
    }  # fmt: skip


def _restore_image(job: Job, path: Path, report: Report) -> Outcome:
    """Alpha is restored like a grey picture, as a clip of its own, unless the model wants it guided by the picture."""
    done = Meter(1, 0, report)
    image, restorer = read_image(job.info, deep=job.output.deep), job.restorer
    if image.shape[-1] == 4 and restorer.limits.alpha == "restored":
        picture = _restored_image(job, image[..., :3], job.spec)
        grey = np.repeat(image[..., 3:], 3, axis=-1)
        alpha = _restored_image(job, grey, job.spec.model_copy(update={"color_correction": "none"}))
        picture = np.concatenate([picture, alpha[..., :1]], axis=-1)
    else:
        picture = _restored_image(job, image, job.spec)
    done.add(1)
    done.phase("finishing")
    write_image(path, framed(picture, job.framing), job.output)
    return Outcome(job.plan.frame, 1, job.output.suffix, job.warnings)


def _restored_image(job: Job, image: Samples, spec: TaskSpec) -> Samples:
    """`H W C` -> the same of the target's size, contiguous."""
    stream = open_stream(job.plan, spec, job.restorer, job.descent)
    pixels = _prepared(to_pixels(image[None], job.restorer.device), job)
    (restored,) = restored_pixels([pixels], job.plan, spec, job.restorer, stream=stream)
    (picture,) = to_words(restored) if job.output.deep else to_bytes(restored)
    return cast(Samples, picture)


def _prepared(pixels: Tensor, job: Job) -> Tensor:
    return pixels if job.spec.preprocess_width is None else enlarge(pixels, (job.plan.source,))
