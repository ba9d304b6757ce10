"""Whole clips, from pixels to pixels: the pipeline of Upres around batch mode."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from upres.models.limits import SEEDVR2
from upres.models.restorer import StreamSpec
from upres.models.seedvr2.batches import BatchStream, Recipe
from upres.models.seedvr2.config import SEEDVR2_3B, SEEDVR2_7B
from upres.models.seedvr2.noise import PIXEL_SEED_OFFSET, Noise, SeededNoise
from upres.models.seedvr2.parts import Parts
from upres.models.seedvr2.sampler import condition, sample
from upres.restore.frames import restored_pixels
from upres.restore.plan import Plan, Size, enlargement
from upres.restore.tensors import crop
from upres.tasks import TaskSpec

from .lead_in import preceded
from .networks import dit_of, tiling_of, vae_of
from .pixels import MASK_TOLERANCE, RANKED, RANKED_TOLERANCE, ranked_at_random
from .recording import Check, NotUnderstood, Recording, distance, share_off

TOLERANCE = 1e-4
CPU = torch.device("cpu")


class RecordedNoise:
    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._pixels = self._latents = 0

    def pixels(self, video: Tensor) -> Tensor:
        self._pixels += 1
        return rearrange(self._recording[f"in.input_noise{self._pixels - 1}"], "c t h w -> t c h w")

    def latents(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        self._latents += 1
        number = self._latents - 1
        return self._recording[f"in.noise{number}"], self._recording[f"in.noise_aug{number}"]


class DrawnNoise(SeededNoise):
    """Fills memory in the order in which the reference's pixels happened to lie in it, which the recording tells."""

    def __init__(self, recording: Recording) -> None:
        seed = recording.config["args"]["seed"]
        super().__init__(seed, CPU)
        self._pixel_generator = torch.Generator().manual_seed(seed + PIXEL_SEED_OFFSET)
        calls = recording.config.get("randn_like_calls", [])
        self._layouts = [(shape, strides) for phase, shape, strides in calls if phase == "enc"]

    def pixels(self, video: Tensor) -> Tensor:
        shape, strides = self._layouts.pop(0)
        drawn = torch.empty_strided(shape, strides).normal_(generator=self._pixel_generator)
        return rearrange(drawn, "c t h w -> t c h w")


class Spy:
    """A restorer in batch mode, for the recorded recipe; keeps what its stream gave, and may add an error to it."""

    limits = SEEDVR2
    footprint = None
    device = CPU

    def __init__(self, parts: Parts, recording: Recording, error: float = 0.0) -> None:
        self._parts, self._config, self._error = parts, recording.config, error
        args = self._config["args"]
        self._recipe = Recipe(args["overlap"], args["uniform"], args["input_noise"], args["latent_noise"])
        explicit = self._config.get("explicit_noise", True)
        self._noise: Noise = RecordedNoise(recording) if explicit else DrawnNoise(recording)
        self.given: list[Tensor] = []

    def open(self, spec: StreamSpec) -> Spy:
        tiling = self._config.get("tiling(px tile,overlap)")
        tiles = tiling_of(*tiling) if tiling is not None else None
        self._stream = BatchStream(self._parts, spec.window, tiles, self._noise, self._recipe)
        return self

    def push(self, frames: Tensor) -> Iterator[Tensor]:
        return map(self._seen, self._stream.push(frames))

    def flush(self) -> Iterator[Tensor]:
        return map(self._seen, self._stream.flush())

    def _seen(self, frames: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(len(self.given))
        self.given.append(frames + self._error * (torch.rand(frames.shape, generator=generator) * 2 - 1))
        return self.given[-1]


def pipeline(recording: Recording) -> list[Check]:
    args: dict[str, Any] = recording.config["args"]
    dit_name, vae_name = recording.config["weights"].split(" + ")
    dit, vae = dit_of(recording.beside(dit_name)), vae_of(recording.beside(vae_name))
    parts = Parts(dit, vae, recording["in.txt"], torch.float32)

    final, raw = _run(recording, Spy(parts, recording))
    checks = []
    if "mid.final_before_post" in recording.names:
        recorded = recording["mid.final_before_post"]
        checks.append(distance("frames before colour", raw, recorded[-len(raw) :], TOLERANCE))
    recorded = recording["out.final"]
    if args["color"] not in RANKED:
        return [*checks, distance("finished frames", final, recorded, TOLERANCE)]

    error = checks[0].error if checks else TOLERANCE / 10
    shaken, _ = _run(recording, Spy(parts, recording, error))
    free = ~ranked_at_random(args["color"], raw.movedim(-1, 1)).movedim(1, -1).expand_as(raw)
    moved = float(((shaken[..., :3] - final[..., :3])[free].abs() > TOLERANCE).double().mean())
    checks.append(share_off("finished frames", final[..., :3][free], recorded[..., :3][free],
                            max(RANKED_TOLERANCE, 2 * moved)))  # fmt: skip
    if recorded.shape[-1] == 4:
        checks.append(share_off("alpha", final[..., 3:], recorded[..., 3:], MASK_TOLERANCE))
    return checks


def _run(recording: Recording, spy: Spy) -> tuple[Tensor, Tensor]:
    """Finished frames in [0, 1] and the model's own about [-1, 1], both T H W C, without those put before the clip."""
    args: dict[str, Any] = recording.config["args"]
    frames = rearrange(recording["in.frames"], "t h w c -> t c h w")
    frames = frames[preceded(len(frames), args["prepend"])]
    plan = _plan(Size(*frames.shape[-2:]), len(frames), args)
    spec = TaskSpec.model_construct(seed=args["seed"], color_correction=args["color"], vae_tiling="off",
                                    vae_quality="high")  # fmt: skip
    out = torch.cat(list(restored_pixels(frames.split(3), plan, spec, spy)))
    pictures = (out.clamp(-1, 1) * 0.5 + 0.5, crop(torch.cat(spy.given), plan.target))
    final, raw = (rearrange(x[args["prepend"] :], "t c h w -> t h w c") for x in pictures)
    return final, raw


def _plan(source: Size, frames: int, args: dict[str, Any]) -> Plan:
    steps = enlargement(source, args["resolution"], args["max_resolution"])
    padded = steps[-1].padded(SEEDVR2.multiple_of)
    target = steps[-1].even()
    return Plan(source=source, steps=steps, kept=steps[-1], target=target, model_input=padded, model_output=padded,
                origin=(0, 0), window=args["batch_size"], block=3, frames=frames, frame=target)  # fmt: skip


def one_step(recording: Recording) -> list[Check]:
    """A window's noise, and what the transformer makes of it."""
    known = {SEEDVR2_3B.rope: "3b", SEEDVR2_7B.rope: "7b"}
    text, latent = recording["in.txt"], recording["mid.b0.cond_latent"]
    for size in known.values():
        dit = dit_of(recording.beside(f"dit_{size}_tiny_weights"))
        if dit.config.text_dim == text.shape[-1]:
            break
    else:
        raise NotUnderstood("no weights beside it take its text")
    noise = recording["in.noise0"], recording["in.noise_aug0"]
    drawn = SeededNoise(recording.config.get("args", {}).get("seed", 42), CPU).latents(torch.empty_like(noise[0]))
    restored = sample(dit, noise[0], condition(latent, *noise), text)
    return [
        *(distance("noise", ours, recorded, 0) for ours, recorded in zip(drawn, noise, strict=True)),
        distance("restored latents", restored, recording["mid.b0.upscaled_latent"], TOLERANCE),
    ]
