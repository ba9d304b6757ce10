"""FlashVSR at full size with random weights: frames a second, milliseconds by part, memory over a long clip.

    python -m tests.bench.flashvsr_gpu [--size 768x1408 ...] [--frames 500] [--full]
    python -m tests.bench.flashvsr_gpu --tiny          # the same with a small model, on a CPU too

Needs no weights and no clips: all is made on the device. The first step of each size compiles the attention.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from tests.flashvsr_tiny import DIT, LQ, TINY, WAN
from torch import Tensor, nn

from upres.models.flashvsr.causal import lay_out_weights
from upres.models.flashvsr.decoder import DecoderConfig, TinyDecoder
from upres.models.flashvsr.dit import Dit, DitConfig, window_means
from upres.models.flashvsr.locality import Choice, Locality
from upres.models.flashvsr.lq_projection import LqConfig, LqProjection
from upres.models.flashvsr.memory import SliceMemory
from upres.models.flashvsr.restorer import FlashVsrRestorer, compute_dtype
from upres.models.flashvsr.sparse_attention import attend, masked
from upres.models.flashvsr.stream import FIRST_FRAMES, FIRST_LATENTS, STEP_FRAMES, Parts
from upres.models.flashvsr.wan_vae import WanConfig, WanDecoder
from upres.models.flashvsr.windows import TOKENS
from upres.models.restorer import StreamSpec

ROUNDS = 20  # of a kernel; the median counts
WARM_STEPS = 4  # not timed
PROMPT_LENGTH = 512
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description="FlashVSR's speed and memory on this device")
    parser.add_argument("--size", nargs="+", default=None, help="height x width, multiples of 128")
    parser.add_argument("--frames", type=int, default=None, help="of the clip whose memory is watched")
    parser.add_argument("--full", action="store_true", help="decode with Wan's decoder")
    parser.add_argument("--tiny", action="store_true", help="a small model and small frames")
    options = parser.parse_args()
    default = (["128x256"], 61) if options.tiny else (["768x1408", "1536x2688"], 500)
    sizes = options.size if options.size is not None else default[0]
    frames = options.frames if options.frames is not None else default[1]
    name = torch.cuda.get_device_name() if DEVICE.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, {compute_dtype(DEVICE)}")
    with torch.inference_mode():
        restorer = build(compute_dtype(DEVICE), tiny=options.tiny, full=options.full)
        for size in sizes:
            height, width = map(int, size.split("x"))
            for section in (speed, attention, choosing):
                section(restorer, height, width, frames)
        error(restorer, *map(int, sizes[0].split("x")), tiny=options.tiny)


def build(dtype: torch.dtype, *, tiny: bool, full: bool) -> FlashVsrRestorer:
    torch.manual_seed(0)
    config, lq = (DIT, LQ) if tiny else (DitConfig(), LqConfig())
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with DEVICE:
            dit, projection = Dit(config), LqProjection(lq, causal=True)
            decoder: Any = (WanDecoder(WAN if tiny else WanConfig()) if full
                            else TinyDecoder(TINY if tiny else DecoderConfig()))  # fmt: skip
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


def speed(restorer: FlashVsrRestorer, height: int, width: int, frames: int) -> None:
    stream, parts = restorer.open(spec(height, width)), restorer.parts
    watches = {name: Watch(net) for name, net in (("projection", parts.projection), ("transformer", parts.dit),
                                                  ("decoder", parts.decoder))}  # fmt: skip
    block = torch.rand(STEP_FRAMES, 3, height, width, device=DEVICE) * 2 - 1
    start = time.perf_counter()
    for _ in range((FIRST_FRAMES + 4) // STEP_FRAMES + 1 + WARM_STEPS):
        drain(stream.push(block))
    synchronise()
    print(f"\n{height}x{width}: first steps, with what is compiled: {time.perf_counter() - start:.1f} s")
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
    print(f"  remembered by the transformer: {sum(m.nbytes for m in stream.slices) / 2**30:.2f} GiB")


def attention(restorer: FlashVsrRestorer, height: int, width: int, frames: int) -> None:
    """One layer of a later step: one time slice of queries, four of keys."""
    locality = Locality.of(height, width, 2.0, 11, DEVICE)
    q, k, v = tokens(restorer, locality, 1), tokens(restorer, locality, 4), tokens(restorer, locality, 4)
    mask = Choice()(window_means(q), window_means(k), locality.near, locality.top)
    sparse = timed(lambda: attend(q, k, v, mask))
    dense = timed(lambda: F.scaled_dot_product_attention(*(x.transpose(0, 1)[None] for x in (q, k, v))))
    off = (attend(q, k, v, mask).float() - masked(q, k, v, mask).float()).abs().max()
    seen = mask.sum(-1).float().mean()
    print(f"  attention, a layer: {seen:.0f} of {mask.shape[-1]} blocks {sparse:.3f} ms, all of them {dense:.3f} ms; "
          f"off the plain computation by {off:.1e}")  # fmt: skip


def choosing(restorer: FlashVsrRestorer, height: int, width: int, frames: int) -> None:
    """What the choice of blocks costs a layer, and other ways to find its threshold."""
    locality = Locality.of(height, width, 2.0, 11, DEVICE)
    q, k = window_means(tokens(restorer, locality, 1)), window_means(tokens(restorer, locality, 4))
    pairs = torch.rand(q.shape[1], len(q) * len(k), device=DEVICE)
    kept = min(pairs.shape[1] - 1, locality.top)
    ways: dict[str, Callable[[], object]] = {
        "all": lambda: Choice()(q, k, locality.near, locality.top),
        "kthvalue": lambda: pairs.kthvalue(pairs.shape[1] - kept),
        "sort": lambda: pairs.sort(dim=-1, descending=True).values[:, kept],
        "topk": lambda: pairs.topk(kept + 1).values[:, -1],
    }
    print("  choice, a layer: " + ", ".join(f"{name} {timed(way):.3f} ms" for name, way in ways.items()))


def error(restorer: FlashVsrRestorer, height: int, width: int, *, tiny: bool) -> None:
    """The first step's velocity in the type that is computed in, against float32 with the same weights and noise."""
    exact = build(torch.float32, tiny=tiny, full=False)
    for ours, theirs in zip(exact.parts.dit.parameters(), restorer.parts.dit.parameters(), strict=True):
        ours.copy_(theirs)
    config, locality = exact.parts.dit.config, Locality.of(height, width, 2.0, 11, DEVICE)
    noise = torch.randn(config.latent_channels, FIRST_LATENTS, height // 8, width // 8, device=DEVICE)
    prompt = torch.randn(PROMPT_LENGTH, config.text_dim, device=DEVICE)
    out = []
    for parts in (restorer.parts, exact.parts):
        memories = [SliceMemory(3) for _ in range(config.layers)]
        conditioning = parts.dit.conditioning(prompt.to(parts.dtype))
        out.append(parts.dit(noise.to(parts.dtype), [], 0, memories, locality, conditioning).float())
        del memories
    off = (out[0] - out[1]).norm() / out[1].norm()
    print(f"\n{height}x{width}, random weights: the velocity in {restorer.parts.dtype} is off float32 by {off:.2e}, "
          f"norm to norm")  # fmt: skip


def tokens(restorer: FlashVsrRestorer, locality: Locality, slices: int) -> Tensor:
    config = restorer.parts.dit.config
    shape = (slices * locality.windows * TOKENS, config.heads, config.dim // config.heads)
    return torch.randn(shape, device=DEVICE).to(restorer.parts.dtype)


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


def timed(run: Callable[[], object]) -> float:
    """Milliseconds, the median of some rounds."""
    run()
    pairs = []
    for _ in range(ROUNDS):
        start = now()
        run()
        pairs.append((start, now()))
    synchronise()
    return statistics.median(between(*pair) for pair in pairs)


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
