"""FlashVSR at full size with random weights: frames a second, milliseconds by part, memory over a long clip.

    python -m tests.bench.flashvsr_gpu [--kernels plain fused fp8] [--size 768x1408 ...] [--frames 500] [--profile]
    python -m tests.bench.flashvsr_gpu --kernels fp8-attention fp8    # 8-bit products without and with 8-bit attention
    python -m tests.bench.flashvsr_gpu --tiny          # the same with a small model, on a CPU too

Needs no weights and no clips: all is made on the device. With plain kernels the first step of each size compiles the
attention. `python -m tests.bench.flashvsr_kernels` looks at single kernels.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from upres.models.flashvsr import sparse_attention
from upres.models.flashvsr.causal import lay_out_weights
from upres.models.flashvsr.decoder import DecoderConfig, TinyDecoder
from upres.models.flashvsr.dit import Dit, DitConfig
from upres.models.flashvsr.locality import Locality
from upres.models.flashvsr.lq_projection import LqConfig, LqMemory, LqProjection
from upres.models.flashvsr.memory import SliceMemory
from upres.models.flashvsr.restorer import FlashVsrRestorer, compute_dtype
from upres.models.flashvsr.stream import FIRST_FRAMES, STEP_FRAMES, Parts
from upres.models.flashvsr.wan_vae import WanConfig, WanDecoder
from upres.models.kernels import blocks, eights, switch
from upres.models.restorer import StreamSpec

WARM_STEPS = 4  # not timed
PROMPT_LENGTH = 512
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
# what a mode can do without: where it is asked for, and an answer that says no
PARTS: dict[str, tuple[Any, str, Any]] = {"attention": (eights, "takes", lambda *_: False)}
ON = {part: getattr(module, attribute) for part, (module, attribute, _) in PARTS.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="FlashVSR's speed and memory on this device")
    parser.add_argument("--size", nargs="+", default=None, help="height x width, multiples of 128")
    parser.add_argument("--frames", type=int, default=None, help="of the clip whose memory is watched")
    parser.add_argument("--kernels", nargs="+", default=["plain"] if DEVICE.type == "cpu" else ["fused", "fp8"])
    parser.add_argument("--full", action="store_true", help="decode with Wan's decoder")
    parser.add_argument("--profile", action="store_true", help="which kernels a step's time goes into")
    parser.add_argument("--plain-attention", action="store_true", help="Triton's kernel on Hopper, too")
    parser.add_argument("--tiny", action="store_true", help="a small model and small frames")
    options = parser.parse_args()
    default = (["128x256"], 61) if options.tiny else (["768x1408", "1536x2688"], 500)
    sizes = options.size if options.size is not None else default[0]
    frames = options.frames if options.frames is not None else default[1]
    name = torch.cuda.get_device_name() if DEVICE.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, {compute_dtype(DEVICE)}", flush=True)
    if options.plain_attention:
        blocks.HOPPER_DIM = 0
    with torch.inference_mode():
        restorer = build(compute_dtype(DEVICE), tiny=options.tiny, full=options.full)
        if not options.full:
            errors(restorer, options.kernels, tiny=options.tiny)
        for mode in options.kernels:
            use(mode)
            for size in sizes:
                speed(restorer, mode, *map(int, size.split("x")), frames, options.profile)


def use(mode: str) -> None:
    """A switch.Mode and, after hyphens, what it shall do without; for this process."""
    name, *without = mode.split("-")
    switch.use(name)
    for part, (module, attribute, off) in PARTS.items():
        setattr(module, attribute, off if part in without else ON[part])
    if unknown := set(without) - set(PARTS):
        raise SystemExit(f"nothing can do without {', '.join(unknown)}; there are {', '.join(PARTS)}")


def build(dtype: torch.dtype, *, tiny: bool, full: bool) -> FlashVsrRestorer:
    torch.manual_seed(0)
    config, lq, small, wan = DitConfig(), LqConfig(), DecoderConfig(), WanConfig()
    if tiny:  # here, as it needs what a machine with a GPU may lack
        from tests.flashvsr_tiny import DIT as config
        from tests.flashvsr_tiny import LQ as lq
        from tests.flashvsr_tiny import TINY as small
        from tests.flashvsr_tiny import WAN as wan
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with DEVICE:
            dit, projection = Dit(config), LqProjection(lq, causal=True)
            decoder: Any = WanDecoder(wan) if full else TinyDecoder(small)
            prompt = torch.randn(PROMPT_LENGTH, config.text_dim)
    finally:
        torch.set_default_dtype(before)
    for net in (dit, projection, decoder):
        for name, parameter in net.named_parameters():
            centre = 1.0 if "norm" in name or "gamma" in name else 0.0
            spread = parameter[0].numel() ** -0.5 if parameter.ndim > 1 and not centre else 0.02
            parameter.normal_(centre, spread)
        lay_out_weights(net.eval().requires_grad_(False))
    return FlashVsrRestorer(Parts(dit, projection, decoder, dit.conditioning(prompt), dtype), DEVICE)


def spec(height: int, width: int) -> StreamSpec:
    return StreamSpec(height, width, height, width, 0, 5, "off", "high")


def speed(restorer: FlashVsrRestorer, mode: str, height: int, width: int, frames: int, profiled: bool) -> None:
    stream, parts = restorer.open(spec(height, width)), restorer.parts
    watches = {name: Watch(net) for name, net in (("projection", parts.projection), ("transformer", parts.dit),
                                                  ("decoder", parts.decoder))}  # fmt: skip
    block = torch.rand(STEP_FRAMES, 3, height, width, device=DEVICE) * 2 - 1
    start = time.perf_counter()
    for _ in range((FIRST_FRAMES + 4) // STEP_FRAMES + 1 + WARM_STEPS):
        drain(stream.push(block))
    synchronise()
    print(f"\n{mode} {height}x{width}: first steps, with what is compiled: {time.perf_counter() - start:.1f} s")
    for watch in watches.values():
        watch.clear()
    peaks, done, start = [], 0, time.perf_counter()
    while done < frames:
        reset_peak()
        for _ in range(max(1, min(frames, 100) // STEP_FRAMES)):
            done += drain(stream.push(block))
        peaks.append(peak())
    synchronise()
    taken = time.perf_counter() - start
    print(f"  {done / taken:.1f} frames/s over {done} frames, {taken / done * STEP_FRAMES * 1e3:.1f} ms a step")
    for name, watch in watches.items():
        print(f"  {name:12} {watch.median():8.2f} ms a step")
        watch.remove()
    print(f"  peak memory, GiB, each 100 frames: {' '.join(f'{x / 2**30:.2f}' for x in peaks)}")
    print(f"  remembered by the transformer: {sum(m.nbytes for m in stream.slices) / 2**30:.2f} GiB", flush=True)
    if profiled and DEVICE.type == "cuda":
        kernels(lambda: drain(stream.push(block)))


def kernels(step: Callable[[], object]) -> None:
    """The longest of a step, and how long the device had nothing to do."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        start = now()
        step()
        end = now()
        synchronise()
    events = sorted(profile.key_averages(), key=lambda event: -event.self_device_time_total)
    busy = sum(event.self_device_time_total for event in events) / 1e3
    print(f"  of a step of {between(start, end):.1f} ms kernels take {busy:.1f}:")
    for event in events[:40]:
        print(f"    {event.self_device_time_total / 1e3:8.3f} ms {event.count:5} x {event.key[:110]}", flush=True)


def errors(restorer: FlashVsrRestorer, modes: list[str], *, tiny: bool) -> None:
    """Of what the parts give in a further step, against float32 with plain kernels, same weights and inputs.

    Whatever type the choice of windows is made in, some choices differ: what `plain` is off is the measure for others.
    """
    exact = build(torch.float32, tiny=tiny, full=False)
    for net in ("dit", "projection", "decoder"):
        pairs = zip(getattr(exact.parts, net).parameters(), getattr(restorer.parts, net).parameters(), strict=True)
        for ours, theirs in pairs:
            ours.copy_(theirs)
    height, width = (128, 256) if tiny else (384, 640)
    wanted = results(exact, height, width)
    del exact
    for mode in ("plain", *(mode for mode in modes if mode != "plain")):
        use(mode)
        made = results(restorer, height, width)
        print(f"{mode} {height}x{width} off float32, norm to norm: " + ", ".join(
            f"{name} {float((x.float() - wanted[name]).norm() / wanted[name].norm()):.2e}" for name, x in made.items()),
            flush=True)  # fmt: skip


def results(restorer: FlashVsrRestorer, height: int, width: int) -> dict[str, Tensor]:
    parts, generator = restorer.parts, torch.Generator().manual_seed(3)
    config, flex = parts.dit.config, sparse_attention.flex
    latents = torch.randn(config.latent_channels, 8, height // 8, width // 8, generator=generator)
    latents = latents.to(DEVICE, parts.dtype)
    frames = (torch.rand(33, 3, height, width, generator=generator) * 2 - 1).to(DEVICE, parts.dtype)
    locality = Locality.of(height, width, 0.3, 11, DEVICE)
    memories, projected = [SliceMemory(3) for _ in range(config.layers)], LqMemory()
    conditioning = parts.dit.conditioning(torch.randn(PROMPT_LENGTH, config.text_dim, generator=generator)
                                          .to(DEVICE, parts.dtype))  # fmt: skip
    decoded = parts.decoder.open()
    sparse_attention.flex = sparse_attention.masked  # nothing is compiled for the few frames here
    try:
        for first, last, shown, looked in ((0, 6, slice(0, 21), slice(0, 25)), (6, 8, slice(21, 29), slice(25, 33))):
            projection = parts.projection(frames[looked], projected)[0]
            velocity = parts.dit(latents[:, first:last], [], first, memories, locality, conditioning)
            pictures = parts.decoder(latents[:, first:last], frames[shown], decoded)
    finally:
        sparse_attention.flex = flex
    return {"projection": projection, "velocity": velocity, "frames": pictures}


class Watch:
    """How long a network takes at each call. On CUDA nothing waits until the end."""

    def __init__(self, net: Any) -> None:
        assert isinstance(net, nn.Module)
        self._times: list[tuple[Any, Any]] = []
        self._handles = [net.register_forward_pre_hook(lambda *_: self._times.append((now(), None))),
                         net.register_forward_hook(self._ended)]  # fmt: skip

    def _ended(self, *_: object) -> None:
        self._times[-1] = (self._times[-1][0], now())

    def clear(self) -> None:
        self._times.clear()

    def median(self) -> float:
        """Milliseconds."""
        synchronise()
        return statistics.median(between(*pair) for pair in self._times)

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()


def now() -> Any:
    if DEVICE.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def between(start: Any, end: Any) -> float:
    return float(start.elapsed_time(end)) if DEVICE.type == "cuda" else (end - start) * 1e3


def drain(pieces: Any) -> int:
    return sum(len(piece) for piece in pieces)


def synchronise() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def reset_peak() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()


def peak() -> int:
    return torch.cuda.max_memory_allocated() if DEVICE.type == "cuda" else 0


if __name__ == "__main__":
    main()
