"""FlashVSR's whole clips, from pixels to pixels: the pipeline of Upres around its stream. And what is before it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from upres.models.flashvsr.decoder import DecoderConfig, TinyDecoder
from upres.models.flashvsr.dit import Dit
from upres.models.flashvsr.locality import Locality
from upres.models.flashvsr.lq_projection import LqConfig, LqProjection
from upres.models.flashvsr.restorer import FlashVsrRestorer
from upres.models.flashvsr.stream import AHEAD, FIRST_FRAMES, FIRST_LATENTS, STEP_FRAMES, STEP_LATENTS, Parts
from upres.models.flashvsr.wan_vae import WanConfig, WanDecoder
from upres.models.limits import FLASHVSR
from upres.models.restorer import StreamSpec
from upres.restore.frames import restored_pixels
from upres.restore.plan import Size, plan_clip
from upres.restore.tensors import enlarge
from upres.tasks import TaskSpec

from .flashvsr import CPU, Choices, dit_config, filled, same, video
from .recording import Check, NotUnderstood, Recording, distance

PORTION = 5  # frames pushed together
RESIZED_TOLERANCE = 1  # of 255: the reference resizes 8-bit pictures with Pillow, we do not round in between
ROLES = ("input", "output", "weights", "full")


@dataclass(frozen=True, slots=True)
class Tolerances:
    inner: float  # of latents, projections and frames before colour
    final: float
    steps: int  # of 255


TINY, FULL = Tolerances(3e-4, 2e-3, 1), Tolerances(3e-3, 3e-3, 2)


class Case:
    """A recorded clip, whose tensors may lie in several files: `<name>_input`, `<name>_weights`, `<name>_full` …"""

    def __init__(self, recording: Recording) -> None:
        self.recording, self.config = recording, recording.config
        stem = re.sub(rf"_({'|'.join(ROLES)})$", "", recording.path.stem)
        paths = (recording.path.with_name(f"{stem}_{role}.safetensors") for role in ROLES)
        self._all = [recording, *(Recording(path) for path in paths if path.exists() and path != recording.path)]

    def __getitem__(self, name: str) -> Tensor:
        return self.holding(name)[name]

    def holding(self, name: str) -> Recording:
        """The file that has a tensor of this name, or tensors whose names begin with it."""
        for recording in self._all:
            if any(known == name or (name.endswith(".") and known.startswith(name)) for known in recording.names):
                return recording
        raise NotUnderstood(f"needs {name} in it or in a file beside it")

    def restorer(self, decoder: nn.Module) -> FlashVsrRestorer:
        dit = Dit(dit_config(self.config["model"]))
        filled(dit, self.holding("dit."), "dit.")
        lq = LqConfig(tuple(self.config["lq_hidden"]), dit.config.dim, self.config["lq_layer_num"])
        projection = LqProjection(lq, causal=self.config.get("version", "v1.1") != "v1")
        filled(projection, self.holding("lq."), "lq.")
        conditioning = dit.conditioning(self["context"].flatten(0, -2))
        return FlashVsrRestorer(Parts(dit, projection, decoder, conditioning, torch.float32), CPU)

    def tiny(self) -> TinyDecoder:
        decoder = TinyDecoder(DecoderConfig(tuple(self.config["tcd_channels"])))
        filled(decoder, self.holding("tcd."), "tcd.")
        return decoder

    def wan(self) -> WanDecoder:
        decoder = WanDecoder(WanConfig(self.config["vae_dim"]))
        filled(decoder, self.holding("vae."), "vae.")
        return decoder


class RecordedNoise:
    """The clip's, and zeros for what comes after it."""

    def __init__(self, recorded: Tensor) -> None:
        self._left = recorded[0]

    def draw(self, step: int, shape: tuple[int, int, int, int]) -> Tensor:
        drawn, self._left = self._left.tensor_split([shape[1]], dim=1)
        return drawn if drawn.shape == shape else torch.zeros(shape)


class Spy:
    """A restorer that is given the recorded settings and noise, and keeps what passes between its networks."""

    limits = FLASHVSR
    footprint = None
    device = CPU

    def __init__(self, restorer: FlashVsrRestorer, case: Case) -> None:
        self._restorer, self._case = restorer, case
        self.choices = Choices(restorer.parts.dit)
        self.projected: list[Tensor] = []
        self.latents: list[Tensor] = []
        self.raw: list[Tensor] = []
        restorer.parts.projection.register_forward_hook(lambda net, given, out: self.projected.append(out[0]))
        assert isinstance(restorer.parts.decoder, nn.Module)
        restorer.parts.decoder.register_forward_hook(self._decoded)

    def _decoded(self, net: nn.Module, given: tuple[Any, ...], frames: Tensor) -> None:
        self.latents.append(given[0])
        self.raw.append(frames.clone())

    def open(self, spec: StreamSpec) -> Any:
        config = self._case.config
        recorded = StreamSpec(
            spec.input_height, spec.input_width, spec.output_height, spec.output_width, spec.seed, spec.window,
            spec.tiling, spec.tile_quality, config["sparse_ratio"], config["local_range"], config["kv_ratio"],
        )  # fmt: skip
        return self._restorer.open(recorded, noise=RecordedNoise(self._case["noise"]))


def tiny(recording: Recording) -> list[Check]:
    """The file with the outputs is held whole; those beside it to their form."""
    case = Case(recording)
    if "latents" in recording.names:
        return _outputs(case)
    return _inputs(case) if "video_u8" in recording.names else _weights(case)


def full(recording: Recording) -> list[Check]:
    case = Case(recording)
    spy = Spy(case.restorer(case.wan()), case)
    final = _run(case, spy)
    chosen = case.config["selected_frames"]
    raw = torch.cat(spy.raw)[chosen]
    return [*_final(case, final, FULL),
            distance("before colour", rearrange(raw, "t c h w -> c t h w"), case["nofix_sel"], FULL.inner)]  # fmt: skip


def _outputs(case: Case) -> list[Check]:
    config, spy = case.config, Spy(case.restorer(case.tiny()), case)
    final = _run(case, spy)
    latents, projected = torch.cat(spy.latents, dim=1), torch.cat([x.flatten(0, 2) for x in spy.projected])
    stride, raw = config["u8_and_raw_spatial_stride"], (torch.cat(spy.raw)[config["selected_frames"]] + 1) / 2
    checks = [
        distance("latents", latents[:, : case["latents"].shape[2]], case["latents"], TINY.inner),
        distance("projection", projected[: case["lq_latents"].shape[1]], case["lq_latents"], TINY.inner),
        distance("before colour", raw[..., ::stride, ::stride], case["raw_sel"], TINY.inner),
        *_final(case, final, TINY),
    ]
    layers, masks = config["model"]["num_layers"], spy.choices.masks
    names = [(step, block) for step in range(config["steps"]) for block in range(layers)]
    empty = 0
    for (step, block), mask in zip(names, masks, strict=False):
        checks.append(same(f"mask {step}.{block}", mask, case[f"step{step}.mask{block}"]))
        empty += int((~mask.any(-1)).sum())
    return [*checks, Check("windows that see nothing", abs(empty - config["empty_mask_rows"]), 0)]


def _final(case: Case, frames: Tensor, tolerances: Tolerances) -> Iterator[Check]:
    stride = case.config["u8_and_raw_spatial_stride"]
    frames = rearrange(frames, "t c h w -> c t h w")
    yield distance("frames", frames[:, case.config["selected_frames"]], case["out_sel"], tolerances.final)
    if "out_u8" in case.recording.names:
        ours = to_bytes(frames[..., ::stride, ::stride])
        yield distance("8-bit frames", ours, case["out_u8"], tolerances.steps)


def _run(case: Case, spy: Spy) -> Tensor:
    """As many finished frames as the reference gives of as many, T C H W, [-1, 1]. We give all that went in."""
    config, pixels = case.config, rearrange(case["video_u8"].float() / 255, "c t h w -> t c h w")
    spec = TaskSpec(input_path="", scale=1, color_correction=config["color_fix"] if config["color_fix"] else "none")
    plan = plan_clip(Size(config["H"], config["W"]), len(pixels), "video", spec, FLASHVSR)
    out = torch.cat(list(restored_pixels(pixels.split(PORTION), plan, spec, spy)))
    if len(out) != len(pixels):
        raise AssertionError(f"{len(pixels)} frames went in and {len(out)} came out")
    return out[: config["out_frames"]].clamp(-1, 1)


def _inputs(case: Case) -> list[Check]:
    """That what the file says of itself is what we make of its size."""
    config, shape, noise = case.config, case["video_u8"].shape, case["noise"].shape
    steps = config["steps"]
    locality = Locality.of(config["H"], config["W"], config["sparse_ratio"], config["local_range"], CPU)
    ratio = config["sparse_ratio"] * 768 * 1280 / (config["H"] * config["W"])
    wanted = {
        "frames": (shape[1], FIRST_FRAMES + AHEAD + STEP_FRAMES * (steps - 1)),
        "given": (config["out_frames"], shape[1] - AHEAD), "height": (shape[2], config["H"]),
        "noise": (noise[2], FIRST_LATENTS + STEP_LATENTS * (steps - 1)), "noise rows": (noise[3] * 8, config["H"]),
        "kept": (locality.top, int(locality.windows**2 * config["topk_ratio"]) - 1),
        "ratio": (ratio, config["topk_ratio"]), "prompt": (case["context"].shape[-1], config["model"]["text_dim"]),
    }  # fmt: skip
    return [Check(name, abs(ours - recorded), 0) for name, (ours, recorded) in wanted.items()]


def _weights(case: Case) -> list[Check]:
    """Every key used, every parameter filled; anything else raises."""
    restorer = case.restorer(case.tiny())
    parts = restorer.parts
    nets: dict[str, nn.Module] = {"dit.": parts.dit, "lq.": parts.projection, "tcd.": case.tiny()}
    known = {prefix + key for prefix, net in nets.items() for key in net.state_dict()}
    return [Check(f"keys of {len(known)}", len(known ^ case.recording.names), 0)]


def to_bytes(frames: Tensor) -> Tensor:
    """The reference cuts fractions off; Upres rounds."""
    return ((frames + 1) * 127.5).clamp(0, 255).to(torch.uint8)


def preparation(recording: Recording) -> list[Check]:
    """Enlarged frames, numbers of frames, bytes. The reference cuts off what is no multiple of 128, or adds black."""
    checks = []
    for number, width, height, scale, mode, out_width, out_height in recording.config["rows"]:
        if f"{mode}{number}" not in recording.names:
            continue
        source = rearrange(recording[f"src{number}"].float() / 255, "h w c -> 1 c h w")
        pixels = enlarge(source, [Size(round(height * scale), round(width * scale))])
        ours = (framed(pixels, out_height, out_width) * 255).round().to(torch.uint8)
        recorded = rearrange(recording[f"{mode}{number}"], "h w c -> 1 c h w")
        checks.append(distance(f"{mode}{number}", ours, recorded, RESIZED_TOLERANCE))
        clip = video(rearrange(recorded, "1 c h w -> c 1 h w"))[..., ::4, ::4]
        for suffix, dtype in (("", torch.float32), ("_bf16", torch.bfloat16)):
            if f"{mode}{number}.tensor{suffix}" in recording.names:
                checks.append(same(f"{mode}{number}.tensor{suffix}", clip.to(dtype),
                                   recording[f"{mode}{number}.tensor{suffix}"]))  # fmt: skip
    if "frames_8n1" in recording.names:
        table = recording["frames_8n1"].tolist()
        checks.append(Check(f"wrong rows of {len(table)}", sum(counts(row[0]) != row for row in table), 0))
    if "to_u8.in" in recording.names:
        ours = rearrange(to_bytes(recording["to_u8.in"]), "c t h w -> t h w c")
        checks.append(same("bytes", ours, recording["to_u8.out"]))
    return checks


def framed(pixels: Tensor, height: int, width: int) -> Tensor:
    """Centred in a frame of this size: cut off or surrounded with black."""
    top, left = (pixels.shape[-2] - height) // 2, (pixels.shape[-1] - width) // 2
    if top < 0 or left < 0:
        top, left = (height - pixels.shape[-2]) // 2, (width - pixels.shape[-1]) // 2
        around = (left, width - pixels.shape[-1] - left, top, height - pixels.shape[-2] - top)
        return torch.nn.functional.pad(pixels, around)
    return pixels[..., top : top + height, left : left + width]


def counts(frames: int) -> list[int]:
    """Of a clip: its frames; those the reference takes, 8n+1, the last one four times more; those it gives; steps."""
    taken = (frames + AHEAD - 1) // STEP_FRAMES * STEP_FRAMES + 1
    return [frames, taken, max(0, taken - AHEAD), (taken - 1) // STEP_FRAMES - STEP_LATENTS]
