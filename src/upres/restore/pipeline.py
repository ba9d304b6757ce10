"""The way of a frame: probe, plan, decode, model, colour, encode. Knows nothing of stores or which model it drives.

Three threads (reader, this one, writer) and two bounded queues: memory does not grow with the clip.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from upres.errors import MediaFailed
from upres.media.decode import FrameReader
from upres.media.encode import FrameWriter, mux
from upres.media.images import read_image, write_png
from upres.media.probe import MediaInfo, probe
from upres.models.limits import Limits
from upres.models.placement import Placement
from upres.models.restorer import Restorer, Stream, StreamSpec
from upres.restore.alpha import guided_alpha
from upres.restore.color import correct
from upres.restore.descent import Descending, Descent
from upres.restore.memory import Work
from upres.restore.plan import Plan, Size, plan_clip
from upres.restore.stages import ReadAhead, WriteBehind
from upres.restore.tensors import crop, enlarge, middle, pad, pad_black, to_bytes, to_model, to_pixels
from upres.tasks import Phase, Progress, TaskSpec

Frames = NDArray[np.uint8]  # T H W C
Report = Callable[[Progress], None]  # may raise, to stop the work


@dataclass(frozen=True, slots=True)
class Outcome:
    size: Size
    frames: int
    warnings: tuple[str, ...]


def restore(
    spec: TaskSpec, restorer: Restorer, output: Path, report: Report, room_bytes: int | None = None
) -> Outcome:
    """Writes the restored file to `output`. Whatever is raised, no file is left and no process runs on.

    room_bytes: what may be used of the device's memory, weights included; None: whatever there is.
    Raises OutOfMemory, FileMissing, InvalidInput, UnsupportedMedia, InvalidParameter, MediaFailed, DiskFull, and what
    `report` and the model raise.
    """
    info = probe(Path(spec.input_path))
    plan = plan_clip(Size(info.height, info.width), info.frames, info.kind, spec, restorer.limits)
    descent = _descent(plan, spec, restorer, room_bytes)
    make = _restore_image if info.kind == "image" else _restore_video
    try:
        outcome = make(info, plan, spec, restorer, output, report, descent)
        return replace(outcome, warnings=(*outcome.warnings, *descent.warnings))
    except BaseException:
        output.unlink(missing_ok=True)
        raise


def _restore_video(
    info: MediaInfo, plan: Plan, spec: TaskSpec, restorer: Restorer, output: Path, report: Report, descent: Descent
) -> Outcome:
    picture = output.with_name(output.name + ".picture.mp4")
    done = _Meter(plan.frames, report)
    try:
        with (
            FrameReader(info, block=plan.block) as reader,
            FrameWriter(picture, width=plan.target.width, height=plan.target.height, fps=info.fps,
                        sample_aspect=info.sample_aspect) as writer,
            ReadAhead(reader) as blocks,
            WriteBehind(writer.write) as sink,
        ):  # fmt: skip
            for frames in restored(blocks, plan, spec, restorer, descent):
                sink.put(frames)
                done.add(len(frames))
        if writer.frames_written != reader.frames_read:
            raise MediaFailed(f"{reader.frames_read} frames were read and {writer.frames_written} written")
        done.phase("finishing")
        lost = mux(picture, info, output)
    finally:
        picture.unlink(missing_ok=True)
    return Outcome(plan.target, writer.frames_written, (*info.warnings, *plan.notes, *reader.warnings, *lost))


def _restore_image(
    info: MediaInfo, plan: Plan, spec: TaskSpec, restorer: Restorer, output: Path, report: Report, descent: Descent
) -> Outcome:
    """Alpha is restored like a grey picture, as a clip of its own, unless the model wants it guided by the picture."""
    done = _Meter(1, report)
    image = read_image(info)
    if image.shape[-1] == 4 and restorer.limits.alpha == "restored":
        (picture,) = restored([image[None, ..., :3]], plan, spec, restorer, descent)
        grey = np.repeat(image[None, ..., 3:], 3, axis=-1)
        plain = spec.model_copy(update={"color_correction": "none"})
        (alpha,) = restored([grey], plan, plain, restorer, descent)
        picture = np.concatenate([picture, alpha[..., :1]], axis=-1)
    else:
        (picture,) = restored([image[None]], plan, spec, restorer, descent)
    done.add(1)
    done.phase("finishing")
    write_png(output, np.ascontiguousarray(picture[0]))
    return Outcome(plan.target, 1, (*info.warnings, *plan.notes))


def restored(
    blocks: Iterable[Frames], plan: Plan, spec: TaskSpec, restorer: Restorer, descent: Descent | None = None
) -> Iterator[Frames]:
    """Blocks of source frames in, blocks of finished frames out, in order; N in = N out.

    Raises MediaFailed if the model breaks that promise.
    """

    def prepared(block: Frames) -> Tensor:
        pixels = to_pixels(block, restorer.device)
        return pixels if spec.preprocess_width is None else enlarge(pixels, (plan.source,))

    for frames in restored_pixels(map(prepared, blocks), plan, spec, restorer, descent):
        yield to_bytes(frames)


@torch.inference_mode()
def restored_pixels(
    blocks: Iterable[Tensor], plan: Plan, spec: TaskSpec, restorer: Restorer, descent: Descent | None = None
) -> Iterator[Tensor]:
    """`T C H W`, [0, 1], of the plan's source's size -> `T C H W`, [-1, 1] about, of its target's.

    A fourth channel is alpha: it is enlarged along the edges of the restored picture.
    """
    stream = Descending(
        _descent(plan, spec, restorer, None) if descent is None else descent, plan.window, plan.block,
        open=lambda window, placement: _open(plan, spec, restorer, window, placement),
        prepare=lambda source: _model_input(source[:, :3], plan, restorer.limits),
    )  # fmt: skip
    waiting: deque[Tensor] = deque()  # source frames (C H W) whose restored frame has not come yet

    def finish(output: Tensor) -> Tensor:
        if len(output) > len(waiting):
            raise MediaFailed(f"the model gave {len(output)} frames where {len(waiting)} were due")
        source = torch.stack([waiting.popleft() for _ in range(len(output))])
        picture = crop(output, plan.target, plan.origin)
        colored = correct(spec.color_correction, picture, _style(source[:, :3], plan))
        if source.shape[1] == 4:
            alpha = source[:, 3:]
            if plan.kept != plan.enlarged:
                alpha = middle(enlarge(alpha, plan.steps), plan.kept)
            return torch.cat((colored, to_model(guided_alpha(alpha, picture))), dim=1)
        return colored

    for block in blocks:
        waiting.extend(block)
        for output in stream.push(block):
            yield finish(output)
    for output in stream.flush():
        yield finish(output)
    if waiting:
        raise MediaFailed(f"the model kept {len(waiting)} frames back")


def _open(plan: Plan, spec: TaskSpec, restorer: Restorer, window: int, placement: Placement) -> Stream:
    return restorer.open(StreamSpec(
        input_height=plan.model_input.height, input_width=plan.model_input.width,
        output_height=plan.model_output.height, output_width=plan.model_output.width,
        seed=spec.seed, window=window, tiling=spec.vae_tiling, tile_quality=spec.vae_quality,
        sparse_ratio=spec.sparse_ratio, local_range=spec.local_range, kv_ratio=spec.kv_ratio, placement=placement,
    ))  # fmt: skip


def _descent(plan: Plan, spec: TaskSpec, restorer: Restorer, room_bytes: int | None) -> Descent:
    work = Work(plan, spec.vae_tiling, spec.vae_quality, spec.color_correction)
    return Descent(work, restorer, room_bytes)


def _model_input(source: Tensor, plan: Plan, limits: Limits) -> Tensor:
    padding = pad_black if limits.padding == "black" else pad
    if limits.takes == "source":
        return to_model(padding(source, plan.model_input))
    return to_model(padding(middle(enlarge(source, plan.steps), plan.kept), plan.model_input, plan.origin))

def _style(source: Tensor, plan: Plan) -> Tensor:
    """Whose colours the result shall have: what the model was given, or would have been given at the target's size."""
    return to_model(crop(middle(enlarge(source, plan.steps), plan.kept), plan.target))

class _Meter:
    """Counts finished frames and reports them."""

    def __init__(self, total: int, report: Report) -> None:
        self._progress = Progress(phase="restoring", frames_total=total)
        self._report = report
        self._since = time.monotonic()
        report(self._progress)

    def add(self, frames: int) -> None:
        done = self._progress.frames_done + frames
        fps = done / max(time.monotonic() - self._since, 1e-6)
        self._progress = self._progress.model_copy(update={"frames_done": done, "fps": fps})
        self._report(self._progress)

    def phase(self, phase: Phase) -> None:
        self._progress = self._progress.model_copy(update={"phase": phase})
        self._report(self._progress)
