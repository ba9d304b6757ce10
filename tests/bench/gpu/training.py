"""Trains SeedVR2's full-size networks for some minutes on real frames, so that likeness is measured on nets that do
their job and not on random ones. The published model it is not, nor meant to be.

    python -m tests.bench.gpu.training --footage FILE.npz --vae-minutes M --dit-minutes K --out FOLDER [--tiny]

First the autoencoder, to give frames back; then the transformer, to restore what was shrunk and enlarged again. What is
found in FOLDER is trained on; a part given 0 minutes is left as it is. Loading, saving and the figures at the end are
within the minutes. Knows nothing of how fast anything is.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.bench.gpu import differentiable
from tests.bench.gpu.footage import Footage, load
from tests.bench.gpu.networks import (
    ABOUT_FILE,
    DIT_FILE,
    TEXT_FILE,
    TEXT_LENGTH,
    VAE_FILE,
    autoencoder,
    computing_type,
    save,
    transformer,
)
from upres.models.seedvr2.dit import Dit
from upres.models.seedvr2.modulation import Modulation
from upres.models.seedvr2.parts import from_latents, to_clip, to_frames, to_latents
from upres.models.seedvr2.sampler import condition, draw_noise, sample
from upres.models.seedvr2.vae import FrameAttention, ResnetBlock, VideoVae
from upres.models.seedvr2.windows import window_layout

EXACT = torch.float32
VAE_RATE, DIT_RATE, TINY_TIMES = 3e-4, 1.5e-4, 10.0  # Adam's, at most; so many times as much where it is tiny
WARM_UP = 30  # steps
STILLS = 1 / 3  # of the autoencoder's time: single frames, which cost a third each
LATENT_NOISE = 0.05  # what the decoder shall not mind; stands in for the posterior's
PULL = 0.05  # of latents towards mean 0 and deviation 1
QUIET = 0.2  # what a residual block adds at first
GATE = 0.1  # likewise in the transformer
POOL, POOL_TIME = 64, 0.2  # pairs of latents, and which share of the time they may take
RESERVE_S = {"vae": 15.0, "dit": 50.0}  # for saving and the last figures
SAY_S = 20.0


@dataclass
class Load:
    """What a step takes; less of it once memory does not suffice."""

    count: int
    frames: int
    side: int

    def lessen(self) -> None:
        if self.count > 1:
            self.count //= 2
        elif self.side > 128:
            self.side -= 128
        else:
            raise MemoryError("not even one crop of 128 x 128 pixels can be trained on here")
        torch.cuda.empty_cache()
        print(f"out of memory: {self} from now on", flush=True)


class Trainer:
    def __init__(self, options: argparse.Namespace) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.tiny, self.out = options.tiny, options.out
        self.type, self.draw = computing_type(self.device), random.Random(0)
        self.out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(0)
        self.faster = TINY_TIMES if self.tiny else 1.0
        self.footage: Footage = load(options.footage, self.device)
        print(f"{self.footage.frames} frames in {len(self.footage.clips)} clips and stills, {len(self.footage.held)} "
              f"held out", flush=True)  # fmt: skip

    def autoencoder(self, until: float) -> None:
        file = self.out / VAE_FILE
        vae = autoencoder(self.device, EXACT, tiny=self.tiny, weights=self.out if file.exists() else None)
        if not file.exists():
            _quiet(vae)
        side = 32 if self.tiny else 256
        stills, clips = Load(4 if self.tiny else 16, 1, side), Load(2 if self.tiny else 4, 5, side)

        def step(progress: float) -> tuple[Tensor, str]:
            size = stills if progress < STILLS else clips
            video = self.footage.batch(size.count, size.frames, size.side, self.draw).to(self.type)
            latents = differentiable.encode(vae.encoder, video)
            noisy = latents + LATENT_NOISE * torch.randn_like(latents)
            made, wide = differentiable.decode(vae.decoder, noisy).float(), latents.float()
            squared = F.mse_loss(made, video.float())
            mean, deviation = wide.mean(dim=(0, 2, 3, 4)), wide.std(dim=(0, 2, 3, 4))
            pull = mean.square().mean() + (deviation - 1).square().mean()
            loss = F.l1_loss(made, video.float()) + 0.5 * squared + PULL * pull
            return loss, f"{size.frames} frames, {_psnr(squared):.1f} dB, latents +-{deviation.mean():.2f}"

        torch.backends.cudnn.benchmark = True  # few sizes, many steps
        said = _train("autoencoder", vae, VAE_RATE * self.faster, until, step,
                      lambda progress: stills if progress < STILLS else clips)  # fmt: skip
        torch.backends.cudnn.benchmark = False
        save(vae, file)
        self._note(said)

    def transformer(self, until: float) -> None:
        began = time.monotonic()
        torch.cuda.empty_cache()
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        vae = self._frozen()
        size = Load(1, 5 if self.tiny else 9, 64 if self.tiny else 512)
        pool: list[tuple[Tensor, Tensor]] = []
        while len(pool) < 4 or (len(pool) < POOL and time.monotonic() < began + POOL_TIME * (until - began)):
            clean = self.footage.batch(1, size.frames, size.side, self.draw)[0].transpose(0, 1)
            pool.append((self._latents(vae, clean), self._latents(vae, lowered(clean, self.draw))))
        print(f"{len(pool)} pairs of latents {tuple(pool[0][0].shape)}, +-{pool[0][0].std():.2f}", flush=True)
        del vae
        torch.cuda.empty_cache()

        file = self.out / DIT_FILE
        found = self.out if file.exists() else None
        dit = transformer("3b", self.device, EXACT, tiny=self.tiny, weights=found)
        if found is None:
            _quiet(dit)
            text = torch.randn(TEXT_LENGTH, dit.config.text_dim, device=self.device)
            torch.save(text.bfloat16().cpu(), self.out / TEXT_FILE)
        text = torch.load(self.out / TEXT_FILE).to(self.device, EXACT)

        def step(_: float) -> tuple[Tensor, str]:
            clean, low = (some[:, : size.side // 8, : size.side // 8] for some in self.draw.choice(pool))
            noise = torch.randn_like(clean)
            grid = len(clean), clean.shape[1] // 2, clean.shape[2] // 2
            layouts = [window_layout(grid, len(text), self.device, shifted=odd) for odd in (False, True)]
            given = torch.cat((noise, condition(low, noise, noise)), dim=-1)
            made = differentiable.velocity(dit, given, text, (layouts[0], layouts[1]))
            loss = F.mse_loss(made, noise - clean)
            return loss, f"of which the condition has {F.mse_loss(low, clean):.4f}"

        said = _train("transformer", dit, DIT_RATE * self.faster, until, step, lambda _: size)
        save(dit, file)
        self._note(said)
        self.figures(dit, text)

    @torch.no_grad()
    def figures(self, dit: Dit | None = None, text: Tensor | None = None) -> None:
        """Of the frames held out, in Upres's own passes: PSNR of what comes back of them."""
        vae = self._frozen()
        frames = self.footage.held[:9].permute(0, 3, 1, 2).float() / 127.5 - 1
        sides = [min(64 if self.tiny else 512, pixels // 16 * 16) for pixels in frames.shape[-2:]]
        clean = frames[..., : sides[0], : sides[1]]
        low = lowered(clean, None)

        def psnr(latents: Tensor) -> float:
            made = to_frames(vae.decode(from_latents(latents.to(self.type)))).float()
            return _psnr(F.mse_loss(made.clamp(-1, 1), clean))

        line = f"held out: reconstructed {psnr(self._latents(vae, clean)):.1f} dB"
        if dit is not None and text is not None:
            latents = self._latents(vae, low)
            start, second = draw_noise(latents, 42)
            restored = sample(dit, start, condition(latents, start, second), text)
            line += (f"; halved and enlarged {_psnr(F.mse_loss(low, clean)):.1f}, that reconstructed "
                     f"{psnr(latents):.1f}, restored {psnr(restored):.1f}")  # fmt: skip
        print(line, flush=True)

    def _note(self, said: str) -> None:
        with (self.out / ABOUT_FILE).open("a") as about:
            about.write(f"{said}, on {self.footage.frames} frames in {len(self.footage.clips)} clips and stills\n")

    def _frozen(self) -> VideoVae:
        vae = autoencoder(self.device, self.type, tiny=self.tiny, weights=self.out)
        vae.merge()
        return vae.to(self.type)

    @torch.no_grad()
    def _latents(self, vae: VideoVae, frames: Tensor) -> Tensor:
        return to_latents(vae.encode(to_clip(frames.to(self.type)))).float().contiguous()


def lowered(frames: Tensor, draw: random.Random | None) -> Tensor:
    """T C H W: made smaller and larger again, with noise; by a half and without noise if nothing is drawn."""
    by, noise = (2.0, 0.0) if draw is None else (draw.choice((2.0, 2.0, 3.0, 4.0)), draw.uniform(0, 0.08))
    height, width = frames.shape[-2:]
    small = F.interpolate(frames, (round(height / by), round(width / by)), mode="bicubic", antialias=True)
    large = F.interpolate(small + noise * torch.randn_like(small), (height, width), mode="bicubic")
    return large.clamp_(-1, 1)


def _train(name: str, network: nn.Module, rate: float, until: float, step: Callable[[float], tuple[Tensor, str]],
           size: Callable[[float], Load]) -> str:  # fmt: skip
    """What was done. step: of the share of time that is over, to a loss and what else to say. Rates end at 0, whenever
    that is."""
    parameters = list(network.requires_grad_(True).parameters())
    optimizer = torch.optim.AdamW(parameters, rate, betas=(0.9, 0.95), weight_decay=0.0,
                                  fused=parameters[0].is_cuda)  # fmt: skip
    began = said = time.monotonic()
    steps = skipped = 0
    while (now := time.monotonic()) < until:
        progress = (now - began) / (until - began)
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (steps + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * progress))
        short = False
        try:
            loss, line = step(progress)
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            if math.isfinite(norm.item()):
                optimizer.step()
            else:
                skipped += 1
            steps += 1
            if steps in (1, 10) or time.monotonic() - said > SAY_S:
                said = time.monotonic()
                print(f"{name} {said - began:4.0f} s, step {steps}: loss {loss.item():.4f}, gradient "
                      f"{norm.item():.2f}, {line}{_peak()}", flush=True)  # fmt: skip
        except torch.OutOfMemoryError as error:
            short = True
            print(str(error).splitlines()[0], flush=True)
        loss = None  # its graph is let go before the next one is built
        optimizer.zero_grad(set_to_none=True)
        if short:
            size(progress).lessen()
    network.requires_grad_(False)
    done = f"{name}: {steps} steps in {time.monotonic() - began:.0f} s"
    print(f"{done}, of which {skipped} had no finite gradient", flush=True)
    return done


@torch.no_grad()
def _quiet(network: nn.Module) -> None:
    """Residual nets begin near the identity."""
    for module in network.modules():
        if isinstance(module, ResnetBlock):
            module.conv2.weight.mul_(QUIET)
        elif isinstance(module, FrameAttention):
            module.to_out[0].weight.mul_(QUIET)
        elif isinstance(module, Modulation):
            for gate in (module.get_parameter("attn_gate"), module.get_parameter("mlp_gate")):
                gate.fill_(GATE)
        elif isinstance(module, Dit):
            module.emb_in.proj_out.weight.mul_(QUIET)
            module.vid_out.proj.weight.mul_(QUIET)


def _psnr(squared: Tensor) -> float:
    """Of pixels in [-1, 1]."""
    return 10 * math.log10(4 / max(squared.item(), 1e-12))


def _peak() -> str:
    return f", peak {torch.cuda.max_memory_allocated() / 2**30:.0f} GiB" if torch.cuda.is_available() else ""


def main(arguments: Iterable[str]) -> None:
    began = time.monotonic()
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gpu.training")
    parser.add_argument("--footage", type=Path, required=True, help="made by footage.py")
    parser.add_argument("--vae-minutes", type=float, default=5.5)
    parser.add_argument("--dit-minutes", type=float, default=3.5)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args(list(arguments))
    if not torch.cuda.is_available() and not options.tiny:
        sys.exit("no GPU here: --tiny shows that training runs")
    trainer = Trainer(options)
    ends = began + 60 * options.vae_minutes
    if options.vae_minutes:
        trainer.autoencoder(ends - min(RESERVE_S["vae"], 15 * options.vae_minutes))
        trainer.figures()
    if options.dit_minutes:
        ends += 60 * options.dit_minutes
        trainer.transformer(ends - min(RESERVE_S["dit"], 15 * options.dit_minutes))
    print(f"{time.monotonic() - began:.0f} s in all", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
