"""Colour, sizes, cross-fades, alpha and quantised blocks."""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from upres.models.seedvr2.blend import cross_fade
from upres.models.weights import quantised as blocks
from upres.restore.alpha import guided_alpha
from upres.restore.color import correct
from upres.restore.plan import Size, enlargement
from upres.restore.tensors import enlarge, pad_black, to_model
from upres.tasks import ColorCorrection

from .recording import Check, Recording, distance, share_off

SMOOTH_TOLERANCE = 1e-5
RANKED = ("lab", "hsv", "wavelet_adaptive")
RANKED_TOLERANCE = 0.01  # share of pixels, where the recording does not say how sensitive it is
HALF_TOLERANCE = 2**-6  # two steps of bfloat16 next to 1
TRANSFORM_TOLERANCE, BLEND_TOLERANCE = 1e-5, 1e-6
ALPHA_TOLERANCE, MASK_TOLERANCE = 1e-5, 0.002  # of a mask: share of pixels, for 8-bit thresholds
BLOCK_TYPES = {block.name: block for block in (blocks.Q8_0, blocks.Q4_K, blocks.Q5_K, blocks.Q6_K)}


def color(recording: Recording) -> list[Check]:
    content, style = recording["in.content"], recording["in.style"]
    observed = recording.config.get("observed", {})
    checks = []
    for mode in get_args(ColorCorrection):
        if f"out.{mode}" in recording.names:
            recorded = recording[f"out.{mode}"]
            ours = correct(mode, content, style)[: len(recorded)]
            if mode in RANKED:
                sensitivity = observed.get(f"{mode}_sens1e-6_frac_gt_1e-4", RANKED_TOLERANCE)
                free = ~ranked_at_random(mode, content[: len(recorded)]).expand_as(recorded)
                checks.append(share_off(f"out.{mode}", ours[free], recorded[free], sensitivity))
            else:
                checks.append(distance(f"out.{mode}", ours, recorded, SMOOTH_TOLERANCE))
        if f"out_bf16.{mode}" in recording.names:
            checks.append(_half_color(recording, mode, correct(mode, content.bfloat16(), style)))
    return checks


def ranked_at_random(mode: str, content: Tensor) -> Tensor:
    """Pixels (T 1 H W) that tie for the reference's unstable ranking: it says nothing of where each should end up.

    In hsv all fully saturated pixels tie, and these are all that the models overshoot to black in a channel.
    """
    tied = content.amin(1, keepdim=True) <= -1
    return torch.zeros_like(tied) if mode == "lab" else tied


def _half_color(recording: Recording, mode: str, ours: Tensor) -> Check:
    """Half precision has so few levels that most ranks tie: held to twice what it cost the reference, on average."""
    recorded = recording[f"out_bf16.{mode}"].float()
    ours = ours[: len(recorded)].float()
    if mode not in RANKED:
        return distance(f"out_bf16.{mode}", ours, recorded, HALF_TOLERANCE)
    tolerance = RANKED_TOLERANCE
    if f"out.{mode}" in recording.names:
        whole = recording[f"out.{mode}"]
        tolerance = 2 * float((recorded[: len(whole)] - whole).abs().mean())
    return Check(f"mean of out_bf16.{mode}", float((ours - recorded).abs().mean()), tolerance)


def transform(recording: Recording) -> list[Check]:
    checks = []
    for number, (height, width, resolution, longest) in enumerate(recording.config["cases"]):
        steps = enlargement(Size(height, width), resolution, longest)
        for suffix, dtype in (("", torch.float32), ("_bf16in", torch.bfloat16)):
            if f"out{number}{suffix}" in recording.names:
                pixels = enlarge(recording[f"in{number}"].to(dtype), steps)
                video = to_model(pad_black(pixels, steps[-1].padded(16))).transpose(0, 1)
                checks.append(distance(f"out{number}{suffix}", video.float(), recording[f"out{number}{suffix}"].float(),
                                       TRANSFORM_TOLERANCE))  # fmt: skip
    return checks


def blend(recording: Recording) -> list[Check]:
    names = sorted(name.removesuffix(".prev") for name in recording.names if name.endswith(".prev"))
    return [
        distance(name, cross_fade(recording[f"{name}.prev"], recording[f"{name}.cur"]), recording[f"{name}.out"],
                 BLEND_TOLERANCE)
        for name in names
    ]  # fmt: skip


def alpha(recording: Recording) -> list[Check]:
    checks = []
    for kind in sorted(name.removesuffix(".in_alpha") for name in recording.names if name.endswith(".in_alpha")):
        ours = guided_alpha(recording[f"{kind}.in_alpha"], recording["upscaled_rgb"])
        recorded = recording[f"{kind}.out_alpha"]
        if kind == "binary":
            checks.append(share_off(kind, ours, recorded, MASK_TOLERANCE, limit=ALPHA_TOLERANCE))
        else:
            checks.append(distance(kind, ours, recorded, ALPHA_TOLERANCE))
    return checks


def quantised(recording: Recording) -> list[Check]:
    checks = []
    for name in sorted(name.removesuffix(".raw") for name in recording.names if name.endswith(".raw")):
        block = BLOCK_TYPES[name]
        packed = recording[f"{name}.raw"].reshape(-1, block.bytes)
        for suffix, dtype, tolerance in (("fp32", torch.float32, 1e-6), ("fp16math", torch.float16, 0.0)):
            if f"{name}.dequant_{suffix}" in recording.names:
                recorded = recording[f"{name}.dequant_{suffix}"]
                ours = blocks.Quantised(block, tuple(recorded.shape)).unpack(packed, dtype)
                checks.append(distance(f"{name} {suffix}", ours, recorded, tolerance))
    return checks
