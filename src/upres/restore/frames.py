"""Frames as tensors through a model: resized, padded, restored, cropped, coloured. Knows nothing of files or codecs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from upres.errors import MediaFailed
from upres.models.limits import Limits
from upres.models.placement import Placement
from upres.models.restorer import Restorer, Stream, StreamSpec
from upres.restore.alpha import guided_alpha
from upres.restore.color import correct
from upres.restore.descent import Descending, Descent
from upres.restore.memory import Work
from upres.restore.plan import Plan
from upres.restore.tensors import crop, enlarge, middle, pad, pad_black, to_model
from upres.tasks import TaskSpec


def descent_for(plan: Plan, spec: TaskSpec, restorer: Restorer, room_bytes: int | None = None) -> Descent:
    work = Work(plan, spec.vae_tiling, spec.vae_quality, spec.color_correction)
    return Descent(work, restorer, room_bytes)


def open_stream(
    plan: Plan, spec: TaskSpec, restorer: Restorer, descent: Descent | None = None, lead_in: int = 0
) -> Descending:
    """From frames of the plan's source to frames of its model output, whatever memory there is."""
    return Descending(
        descent_for(plan, spec, restorer) if descent is None else descent, plan.window, plan.block,
        open=lambda window, placement, unheard: _open(plan, spec, restorer, window, placement, unheard),
        prepare=lambda source: _model_input(source[:, :3], plan, restorer.limits), lead_in=lead_in,
    )  # fmt: skip


@torch.inference_mode()
def restored_pixels(
    blocks: Iterable[Tensor], plan: Plan, spec: TaskSpec, restorer: Restorer,
    *, stream: Descending | None = None, lead_in: int = 0,
) -> Iterator[Tensor]:  # fmt: skip
    """`T C H W`, [0, 1], of the plan's source -> `T C H W`, [-1, 1] about, of its target; N in = N out, in order.

    A fourth channel is alpha: it is enlarged along the edges of the restored picture. Nothing comes back for the first
    `lead_in` frames, as `stream` was opened for. Raises MediaFailed if the model gives more or fewer frames than due.
    """
    stream = open_stream(plan, spec, restorer, lead_in=lead_in) if stream is None else stream
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
        waiting.extend(block[lead_in:])
        lead_in = max(0, lead_in - len(block))
        for output in stream.push(block):
            yield finish(output)
    for output in stream.flush():
        yield finish(output)
    if waiting:
        raise MediaFailed(f"the model kept {len(waiting)} frames back")


def _open(plan: Plan, spec: TaskSpec, restorer: Restorer, window: int, placement: Placement, lead_in: int) -> Stream:
    return restorer.open(StreamSpec(
        input_height=plan.model_input.height, input_width=plan.model_input.width,
        output_height=plan.model_output.height, output_width=plan.model_output.width,
        seed=spec.seed, window=window, tiling=spec.vae_tiling, tile_quality=spec.vae_quality,
        sparse_ratio=spec.sparse_ratio, local_range=spec.local_range, kv_ratio=spec.kv_ratio, placement=placement,
        lead_in=lead_in,
    ))  # fmt: skip


def _model_input(source: Tensor, plan: Plan, limits: Limits) -> Tensor:
    padding = pad_black if limits.padding == "black" else pad
    if limits.takes == "source":
        return to_model(padding(source, plan.model_input))
    return to_model(padding(middle(enlarge(source, plan.steps), plan.kept), plan.model_input, plan.origin))


def _style(source: Tensor, plan: Plan) -> Tensor:
    """Whose colours the result shall have: what the model was given, or would have been given at the target's size."""
    return to_model(crop(middle(enlarge(source, plan.steps), plan.kept), plan.target))
