"""SeedVR2 of full size with random weights on one GPU: speed, memory against what is predicted, precision, modes.

    PYTHONPATH=src python tests/bench/seedvr2_gpu.py clips --models 3B --storage fp16 fp8
    PYTHONPATH=src python tests/bench/seedvr2_gpu.py blocks modes long
    PYTHONPATH=src python tests/bench/seedvr2_gpu.py clips blocks modes long --tiny

Needs torch, safetensors, einops and numpy. Each part prints lines as soon as it has them, so a time limit loses only
what was not measured yet. All of it with both models takes about four minutes of an H100: every restorer is made once
and goes through the parts asked for. `--tiny` is a dry run with small networks, on a CPU too. Weights go to --folder.

clips   each model and storage: 960x540 to 1080p and 1280x720 to 4K; seconds a frame and peak bytes by phase, predicted
        and measured; `--card GB` plans for a smaller card than there is; only the first restorer takes the first clip
        twice, as kernels are compiled in the first pass; tiles at 4K are left to each model's first storage
blocks  bfloat16 against float32, relative error after every block, of each model's first storage
modes   stream and batch mode on --frames of 960x540 with a cut in the middle: steps between frames at the borders of
        batches and elsewhere, seconds a frame; of the first model, as is
long    frames without end for --seconds: bytes on device and host as it goes
"""

from __future__ import annotations

import argparse
import gc
import importlib.machinery
import statistics
import sys
import time
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
try:
    import upres
except ModuleNotFoundError as missing:  # the package's face needs more than its models do: go in by the side
    print(f"without {missing.name}, which the models do not need", flush=True)
    spec = importlib.machinery.PathFinder.find_spec("upres")
    assert spec is not None and spec.submodule_search_locations is not None, "set PYTHONPATH to the folder src"
    for name in [name for name in sys.modules if name.partition(".")[0] == "upres"]:
        del sys.modules[name]
    upres = types.ModuleType("upres")
    upres.__path__ = spec.submodule_search_locations
    sys.modules["upres"] = upres

from seedvr2_weights import write, write_safetensors

from upres.models.kernels import switch
from upres.models.placement import AT_ONCE, Placement
from upres.models.restorer import Stream, StreamSpec
from upres.models.seedvr2.config import SEEDVR2_3B, SEEDVR2_7B, SEEDVR2_VAE, TINY_VAE, DitConfig
from upres.models.seedvr2.dit import Dit
from upres.models.seedvr2.restorer import SeedVr2Restorer, load
from upres.models.seedvr2.vae import VideoVae
from upres.restore.memory import GB, Ladder, MemoryPlan, Work, room_bytes

CONFIGS = {"3B": SEEDVR2_3B, "7B": SEEDVR2_7B}
SMALL = {"dim": 256, "heads": 2, "layers": 3, "text_dim": 256}
STORAGES = ("fp16", "fp8", "q8", "q4")
PHASES = ("encode", "decode", "diffuse")  # in the order of Parts.networks


@dataclass(frozen=True, slots=True)
class Size:
    height: int
    width: int

    @property
    def pixels(self) -> int:
        return self.height * self.width

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


@dataclass(frozen=True, slots=True)
class Clip:
    """What restore.memory wants to know of a plan."""

    source: Size
    target: Size
    model_input: Size
    frames: int
    window: int
    block: int


FULL_CLIPS = (Clip(Size(540, 960), Size(1080, 1920), Size(1088, 1920), 25, 21, 7),
              Clip(Size(720, 1280), Size(2160, 3840), Size(2160, 3840), 5, 5, 1),
              Clip(Size(720, 1280), Size(2160, 3840), Size(2160, 3840), 9, 5, 1))  # fmt: skip
MODES_CLIP = Clip(Size(270, 480), Size(540, 960), Size(544, 960), 300, 21, 7)
TINY_CLIPS = (Clip(Size(24, 32), Size(48, 64), Size(48, 64), 10, 5, 5),)


class Bench:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.device = options, torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.clips = TINY_CLIPS if options.tiny else FULL_CLIPS
        self.warm = False
        options.folder.mkdir(parents=True, exist_ok=True)
        switch.use(options.kernels)
        name = torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu"
        print(f"torch {torch.__version__}, {name}, kernels {switch.mode()}", flush=True)

    def config(self, model: str) -> DitConfig:
        config = CONFIGS[model]
        if not self.options.tiny:
            return config
        return replace(config, **SMALL, shared_from=1 if model == "3B" else SMALL["layers"])

    def restorer(self, model: str, storage: str) -> SeedVr2Restorer:
        """Written, and loaded by the way every task takes. The file is removed: the disk may not hold two."""
        config, folder = self.config(model), self.options.folder
        with torch.device("meta"):
            dit, vae = Dit(config), VideoVae(TINY_VAE if self.options.tiny else SEEDVR2_VAE)
        files = tuple(folder / name for name in (f"{model}-{storage}", "vae", "text"))
        began = time.perf_counter()
        write(files[0], dit, storage, self.device)
        if not files[1].exists() or self.options.tiny:
            write(files[1], vae, "fp16", self.device)
        text = torch.randn(58, config.text_dim, generator=torch.Generator().manual_seed(2))
        write_safetensors(files[2], {"pos_emb": tuple(text.shape)}, {"pos_emb": torch.bfloat16}, lambda _: text)
        written = time.perf_counter()
        owner = load(files, self.device)
        self.wait()
        size = files[0].stat().st_size
        files[0].unlink()
        print(f"{model} {storage}: {size / 1e9:.2f} GB written in {written - began:.1f} s, loaded in "
              f"{time.perf_counter() - written:.1f} s; weights {owner.footprint.weights.total / GB:.2f} GiB, host peak "
              f"{host_peak_gib():.2f} GiB", flush=True)  # fmt: skip
        return owner

    def run(self, parts: Sequence[str]) -> None:
        for model, storage in product(self.options.models, self.options.storage):
            owner, first = self.restorer(model, storage), storage == self.options.storage[0]
            if "clips" in parts:
                for clip in self.clips if first else self.clips[:2]:
                    self.measure(owner, clip)
            if "blocks" in parts and first:
                self.blocks(owner, model)
            if model == self.options.models[0] and first:
                for part in parts:
                    if part in ("modes", "long"):
                        getattr(self, part)(owner)
            if not {"clips", "blocks"} & set(parts):
                return
            del owner
            self.free()

    def measure(self, owner: SeedVr2Restorer, clip: Clip) -> None:
        on_gpu = self.device.type == "cuda"
        card = self.options.card * GB if self.options.card else self.card_bytes()
        ladder = Ladder(owner.footprint, Work(clip, "auto", "high", "none"), room_bytes(card, 0, on_gpu=on_gpu),
                        on_gpu=on_gpu)  # type: ignore[arg-type]  # fmt: skip
        plan: MemoryPlan | None = ladder.first()
        while plan is not None:
            verdict = "fits" if plan.fits else f"does not fit: {plan.remedy}"
            print(f"  {clip.source} -> {clip.target}, {clip.frames} frames: {plan} (step {plan.step}, {verdict})")
            try:
                self.passed(owner, clip, plan)
                return
            except torch.OutOfMemoryError as error:
                print(f"    {str(error).splitlines()[0]}", flush=True)
            plan = ladder.below(plan)

    def passed(self, owner: SeedVr2Restorer, clip: Clip, plan: MemoryPlan) -> None:
        spec = spec_of(clip, plan.window, plan.placement)
        turns = ("only",) if self.warm else ("first", "second")  # kernels are chosen in the first
        self.warm = True
        for turn in turns:
            self.free()
            if self.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            stream, began = owner.open(spec), time.perf_counter()
            with self.phases(owner) as (seconds, peaks):
                count = sum(len(piece) for piece in drive(stream, self.frames(clip), clip.block))
            self.wait()
            taken = time.perf_counter() - began
            assert count == clip.frames
            print(f"    {turn} pass: {taken / count:.3f} s a frame; " + ", ".join(
                f"{name} {seconds[name] / count:.3f}" for name in PHASES), flush=True)  # fmt: skip
        if self.device.type == "cuda":
            for name in PHASES:
                predicted = getattr(plan, name)
                print(f"    {name}: {peaks[name] / GB:.2f} GiB at the peak, predicted {predicted / GB:.2f} "
                      f"({100 * (predicted / peaks[name] - 1):+.1f} %)", flush=True)  # fmt: skip
            print(f"    reserved by the allocator: {torch.cuda.max_memory_reserved() / GB:.2f} GiB", flush=True)

    def blocks(self, owner: SeedVr2Restorer, model: str) -> None:
        """The same stored weights, computed with in both types."""
        latent = torch.randn(2, *((8, 12) if self.options.tiny else (68, 120)), 33, device=self.device)
        outs: dict[torch.dtype, list[Tensor]] = {torch.float32: [], torch.bfloat16: []}
        for dtype, seen in outs.items():
            hooks = [b.register_forward_hook(lambda _m, _a, out, seen=seen: seen.append(out[0].float().cpu()))
                     for b in owner.parts.dit.blocks]  # fmt: skip
            with torch.inference_mode():
                seen.append(owner.parts.dit(latent.to(dtype), owner.parts.text, 1000.0).float().cpu())
            for hook in hooks:
                hook.remove()
        errors = [float((a - b).norm() / a.norm()) for a, b in zip(*outs.values(), strict=True)]
        print(f"  {model}: bfloat16 against float32, relative error after each block, and of the velocity:")
        print("    " + " ".join(f"{error:.2e}" for error in errors), flush=True)

    def modes(self, owner: SeedVr2Restorer) -> None:
        clip = replace(self.clips[0], frames=24) if self.options.tiny else replace(
            MODES_CLIP, frames=self.options.frames)  # fmt: skip
        window = 5 if self.options.tiny else self.options.window
        spec = spec_of(clip, window, AT_ONCE)
        portions = replace(spec, placement=Placement(carried=False))
        for name, stream in (("batch", owner.open_batches(spec)), ("stream", owner.open(spec)),
                             ("stream in portions", owner.open(portions))):  # fmt: skip
            began, steps, last = time.perf_counter(), [], None
            for piece in drive(stream, self.frames(clip, cut=clip.frames // 2), clip.block):
                for frame in piece:
                    if last is not None:
                        steps.append(float((frame - last).abs().mean()))
                    last = frame
            self.wait()
            taken, borders = time.perf_counter() - began, range(window - 1, len(steps), window)
            cut = clip.frames // 2 - 1
            at = [steps[i] for i in borders if i != cut]
            off = [step for i, step in enumerate(steps) if i not in borders and i != cut]
            border, elsewhere = statistics.mean(at), statistics.mean(off)
            print(f"  {name}: {taken / clip.frames:.3f} s a frame; step between frames {border:.4f} at borders of "
                  f"batches, {elsewhere:.4f} elsewhere: {border / elsewhere:.2f} times; at the cut {steps[cut]:.4f}",
                  flush=True)  # fmt: skip

    def long(self, owner: SeedVr2Restorer) -> None:
        clip = replace(self.clips[0], frames=10**9)
        stream = owner.open(spec_of(clip, 5, AT_ONCE if not self.options.tiny else Placement(tile=48)))
        began, done, reports = time.perf_counter(), 0, 0
        for frames in self.frames(clip):
            done += sum(len(piece) for piece in stream.push(frames))
            spent = time.perf_counter() - began
            if spent >= reports * self.options.seconds / 10:
                reports += 1
                there = torch.cuda.memory_allocated() / GB if self.device.type == "cuda" else 0.0
                print(f"  {done} frames, {spent:.0f} s: device {there:.3f} GiB, host {host_gib():.3f} GiB", flush=True)
            if spent >= self.options.seconds:
                return

    def frames(self, clip: Clip, cut: int | None = None) -> Iterator[Tensor]:
        """A textured picture that drifts under a little noise, another one from the cut on; blocks of T C H W."""
        height, width = clip.model_input.height, clip.model_input.width
        generator = torch.Generator(self.device).manual_seed(3)
        done = 0
        while done < clip.frames:
            block = []
            for number in range(done, min(done + clip.block, clip.frames)):
                if number in (0, cut):
                    small = torch.rand(1, 3, height // 8 + 64, width // 8 + 64, generator=generator, device=self.device)
                    picture = F.interpolate(small, scale_factor=8, mode="bicubic")[0].clamp(0, 1) * 2 - 1
                x = number % 256
                part = picture[:, x : x + height, x : x + width]
                block.append(part + 0.05 * torch.randn(part.shape, generator=generator, device=self.device))
            done += len(block)
            yield torch.stack(block)

    @contextmanager
    def phases(self, owner: SeedVr2Restorer) -> Iterator[tuple[dict[str, float], dict[str, int]]]:
        """Seconds and peak bytes within each network's calls, with a wait before and after each."""
        seconds, peaks, hooks = dict.fromkeys(PHASES, 0.0), dict.fromkeys(PHASES, 0), []
        began = 0.0

        def before(*_: object) -> None:
            nonlocal began
            self.wait()
            began = time.perf_counter()

        def count(*_: object) -> None:  # once the network that computed before has been moved away
            if self.device.type == "cuda":
                self.wait()
                torch.cuda.reset_peak_memory_stats()

        def after(name: str) -> None:
            self.wait()
            seconds[name] += time.perf_counter() - began
            if self.device.type == "cuda":
                peaks[name] = max(peaks[name], torch.cuda.max_memory_allocated())

        for name, network in zip(PHASES, owner.parts.networks, strict=True):
            hooks.append(network.register_forward_pre_hook(before, prepend=True))
            hooks.append(network.register_forward_pre_hook(count))
            hooks.append(network.register_forward_hook(lambda *_, name=name: after(name)))
        yield seconds, peaks
        for hook in hooks:
            hook.remove()

    def card_bytes(self) -> int:
        return torch.cuda.get_device_properties(0).total_memory if self.device.type == "cuda" else 8 * GB

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def free(self) -> None:
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def drive(stream: Stream, blocks: Iterator[Tensor], size: int) -> Iterator[Tensor]:
    with torch.inference_mode():
        for block in blocks:
            yield from stream.push(block)
        yield from stream.flush()


def spec_of(clip: Clip, window: int, placement: Placement) -> StreamSpec:
    height, width = clip.model_input.height, clip.model_input.width
    return StreamSpec(height, width, height, width, 42, window, "auto", "high", placement=placement)


def host_gib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / GB


def host_peak_gib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20


def add_options(parser: argparse.ArgumentParser) -> None:
    """What a Bench wants to be told."""
    parser.add_argument("--models", nargs="+", choices=tuple(CONFIGS), default=["3B"])
    parser.add_argument("--storage", nargs="+", choices=STORAGES, default=list(STORAGES))
    parser.add_argument("--kernels", choices=("auto", "plain", "fused", "fp8"), default="auto")
    parser.add_argument("--card", type=int, default=0, help="GB to plan for; 0: those of the card there is")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/seedvr2-bench"))
    parser.add_argument("--tiny", action="store_true")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=("clips", "blocks", "modes", "long"))
    parser.add_argument("--window", type=int, default=21, help="frames, of the part `modes`")
    parser.add_argument("--frames", type=int, default=300, help="of the part `modes`")
    parser.add_argument("--seconds", type=float, default=30, help="of the part `long`")
    add_options(parser)
    bench = Bench(parser.parse_args())
    bench.run(bench.options.parts)


if __name__ == "__main__":
    main()
