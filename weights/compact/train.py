"""Trains `compact` on the pool that `prepare.py` made, for a given time, and writes the weights file.

    python train.py POOL OUTPUT.safetensors --minutes 9 --channels 48 --depth 6

Recipe (RECIPE counts its changes): crops of --patch output pixels, chosen where there is detail; CLIP_SHARE of each
batch are H.264 frames, the rest is halved and damaged on the fly (`degrade.py`). Charbonnier loss, Adam, cosine decay
over the time given, and the running average of the weights is what is saved. The output is one file of fp16 tensors.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from degrade import blur, damage, halve
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from upres.models.compact.checkpoint import read
from upres.models.compact.net import SCALE, CompactConfig, CompactNet, inner

RECIPE = "2"
SEED = 42
CLIP_SHARE = 0.35
STILL_GROUPS = 2  # parts of a batch that are halved and damaged each in its own way
SOFT_SIGMA = (0.4, 1.8)  # of crops that were blurred to begin with, and must come back no sharper; output pixels
PRECISE_FROM = 0.6  # of the time: bfloat16 before, (TensorFloat-32) float32 after
EPSILON = 1e-3  # Charbonnier
RATE_END, WARM_UP = 1e-6, 200  # the learning rate falls to it, and rises over so many steps
AVERAGE = 0.999  # of the weights, per step
SCALES = (1.0, 1.0, 0.75, 0.5)  # plates are also shown smaller, so with denser detail


@dataclass(frozen=True, slots=True)
class Atlas:
    """Pictures of many sizes in one flat store, uint8, with the places worth cropping."""

    pixels: Tensor  # all pictures' pixels one after another, N 3
    offset: Tensor  # first pixel of each picture
    width: Tensor
    places: Tensor  # P 3: picture, top, left of crops of the wanted size, drawn by detail

    def crop(self, picture: Tensor, top: Tensor, left: Tensor, size: int) -> Tensor:
        """B 3 size size, float, [0, 1]."""
        rows = torch.arange(size, device=self.pixels.device)
        index = (top[:, None] + rows)[:, :, None] * self.width[picture][:, None, None]
        index = index + (left[:, None] + rows)[:, None, :] + self.offset[picture][:, None, None]
        return self.pixels[index].permute(0, 3, 1, 2).float() / 255


def atlas(pictures: list[np.ndarray], size: int, grid: int, rng: np.random.Generator) -> Atlas:
    """`places` are multiples of `grid`; a place's weight is the mean gradient of its crop, with a floor."""
    places, weights = [], []
    for index, picture in enumerate(pictures):
        grey = picture.astype(np.float32).mean(2)
        slope = np.abs(np.diff(grey, axis=0))[:, :-1] + np.abs(np.diff(grey, axis=1))[:-1]
        for top in range(0, picture.shape[0] - size + 1, grid):
            for left in range(0, picture.shape[1] - size + 1, grid):
                places.append((index, top, left))
                weights.append(float(slope[top : top + size, left : left + size].mean()))
    weight = np.minimum(np.array(weights), 8) + 1
    drawn = rng.choice(len(places), size=200_000, p=weight / weight.sum())
    return Atlas(
        torch.from_numpy(np.concatenate([picture.reshape(-1, 3) for picture in pictures])),
        torch.tensor(np.cumsum([0] + [picture.shape[0] * picture.shape[1] for picture in pictures[:-1]])),
        torch.tensor([picture.shape[1] for picture in pictures]),
        torch.tensor(np.array(places)[drawn]),
    )


def on(device: torch.device, store: Atlas) -> Atlas:
    return Atlas(*(part.to(device) for part in (store.pixels, store.offset, store.width, store.places)))


class Pool:
    """Batches of (given, wanted) in the network's range [-1, 1], made on the device."""

    def __init__(self, folder: Path, patch: int, soft: float, device: torch.device) -> None:
        self.patch, self.soft, self.rng = patch, soft, random.Random(SEED)
        noise = np.random.default_rng(SEED)
        plates = {path.stem: Image.open(path).convert("RGB") for path in sorted((folder / "plates").glob("*.jpg"))}
        kept = json.loads((folder / "clips.json").read_text())
        frames = [np.asarray(Image.open(folder / "clips" / one["file"]).convert("RGB")) for one in kept]
        regions = [np.asarray(plates[one["plate"]])[one["top"] :, one["left"] :] for one in kept]
        regions = [
            region[: 2 * frame.shape[0], : 2 * frame.shape[1]] for region, frame in zip(regions, frames, strict=True)
        ]
        stills = [np.asarray(scaled(plate, ratio)) for plate in plates.values() for ratio in sorted(set(SCALES))]
        stills = [still for still in stills if min(still.shape[:2]) >= patch]
        self.stills = on(device, atlas(stills, patch, 16, noise))
        self.regions = on(device, atlas(regions, patch, 16, noise))
        self.frames = on(device, atlas(frames, patch // 2, 64, noise))

    def batch(self, count: int) -> tuple[Tensor, Tensor]:
        from_clips = round(count * CLIP_SHARE)
        parts = [self.clip_part(from_clips)]
        each = (count - from_clips) // STILL_GROUPS
        parts += [self.still_part(each) for _ in range(STILL_GROUPS)]
        given, wanted = (torch.cat(part) * 2 - 1 for part in zip(*parts, strict=True))
        return turned(given, wanted, self.rng)

    def still_part(self, count: int) -> tuple[Tensor, Tensor]:
        wanted = self.stills.crop(*self.draw(self.stills, count), self.patch)
        if self.rng.random() < self.soft:
            wanted = blur(wanted, self.rng.uniform(*SOFT_SIGMA))
        wanted = colored(wanted)
        return damage(halve(wanted, self.rng), self.rng), wanted

    def clip_part(self, count: int) -> tuple[Tensor, Tensor]:
        picture, top, left = self.draw(self.regions, count)
        wanted = self.regions.crop(picture, top, left, self.patch)
        return self.frames.crop(picture, top // 2, left // 2, self.patch // 2), wanted

    def draw(self, store: Atlas, count: int) -> tuple[Tensor, ...]:
        chosen = torch.randint(len(store.places), (count,), device=store.places.device)
        return tuple(store.places[chosen].unbind(1))


def scaled(picture: Image.Image, ratio: float) -> Image.Image:
    size = [int(side * ratio) // 2 * 2 for side in picture.size]
    return picture if ratio == 1 else picture.resize((size[0], size[1]), Image.Resampling.BICUBIC)


def colored(x: Tensor) -> Tensor:
    """Each crop flatter, or steeper up to burnt out, around a random colour, so that few pictures stand for many."""
    gain = 0.6 + 0.8 * torch.rand((x.shape[0], 1, 1, 1), device=x.device)
    return (x * gain + (1 - gain) * torch.rand((x.shape[0], 3, 1, 1), device=x.device)).clamp(0, 1)


def turned(given: Tensor, wanted: Tensor, rng: random.Random) -> tuple[Tensor, Tensor]:
    for axes in ((2,), (3,)):
        if rng.random() < 0.5:
            given, wanted = given.flip(axes), wanted.flip(axes)
    return (given.transpose(2, 3), wanted.transpose(2, 3)) if rng.random() < 0.5 else (given, wanted)


def charbonnier(found: Tensor, wanted: Tensor) -> Tensor:
    return ((found - wanted).square() + EPSILON**2).sqrt().mean()


def rate(top: float, step: int, share: float) -> float:
    """`share` of the time has passed."""
    cosine = RATE_END + (top - RATE_END) * (1 + math.cos(math.pi * min(1.0, share))) / 2
    return cosine * min(1.0, (step + 1) / WARM_UP)


def train(options: argparse.Namespace, device: torch.device) -> tuple[CompactNet, int]:
    torch.manual_seed(SEED)
    torch.backends.cudnn.benchmark = True
    net = CompactNet(CompactConfig(options.channels, options.depth))
    torch.nn.init.zeros_(net.tail.weight)  # the start is plain bicubic
    if options.start is not None:
        net.load_state_dict(read(options.start).state_dict())
    net = net.to(device).to(memory_format=torch.channels_last)
    average = {name: value.detach().clone() for name, value in net.state_dict().items()}
    optimizer = torch.optim.Adam(net.parameters(), lr=options.rate, betas=(0.9, 0.99), fused=device.type == "cuda")
    pool = Pool(options.pool, options.patch, options.soft, device)
    start, step = time.monotonic(), 0
    while (passed := (time.monotonic() - start) / (60 * options.minutes)) < 1:
        optimizer.param_groups[0]["lr"] = rate(options.rate, step, passed)
        given, wanted = pool.batch(options.batch)
        with torch.autocast(device.type, torch.bfloat16, enabled=passed < PRECISE_FROM):
            found = net(given.contiguous(memory_format=torch.channels_last))
        loss = charbonnier(found, inner(wanted, SCALE * net.config.reach))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        keep = min(AVERAGE, step / (step + 10))
        torch._foreach_lerp_(list(average.values()), list(net.state_dict().values()), 1 - keep)
        step += 1
        if step % options.report == 0:
            print(f"{passed:6.1%} step {step} loss {loss.item():.5f}", flush=True)
    net.load_state_dict(average)
    return net, step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pool", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--channels", type=int, default=48)
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--patch", type=int, default=192, help="output pixels a side, a multiple of 32")
    parser.add_argument("--start", type=Path, help="weights to go on from, of the same channels and depth")
    parser.add_argument("--rate", type=float, default=1.5e-3, help="learning rate after the warm-up")
    parser.add_argument("--soft", type=float, default=0.3, help="share of crops that were blurred to begin with")
    parser.add_argument("--report", type=int, default=500)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net, steps = train(options, device)
    tensors = {name: value.half().cpu().contiguous() for name, value in net.state_dict().items()}
    facts = {"architecture": "compact", "scale": "2", "licence": "Apache-2.0", "recipe": RECIPE, "steps": str(steps)}
    facts |= {name: str(getattr(options, name)) for name in ("batch", "patch", "soft", "minutes")}
    save_file(tensors, options.output, metadata=facts)
    print(f"{options.output}: {steps} steps, {options.output.stat().st_size} bytes")


if __name__ == "__main__":
    main()
