"""Times `compact` on this machine and says how far each number format is from float32 on the CPU.

    python speed.py compact_x2.safetensors PICTURE [--device cuda] [--frames 30] [--tile 1024]

PICTURE is cropped or repeated to the two source sizes of SIZES; frames stay on the device (no decoding, no encoding).
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from upres.models.compact import restorer as compact
from upres.models.compact.checkpoint import read
from upres.models.restorer import StreamSpec

SIZES = {"360p -> 720p": (360, 640), "1080p -> 4K": (1080, 1920)}
DTYPES = {
    "cpu": (torch.float32, torch.bfloat16),  # float16 has no fast convolution there
    "cuda": (torch.float32, torch.bfloat16, torch.float16),
}


def source(picture: Path, height: int, width: int) -> torch.Tensor:
    """1 3 H W, float32, [-1, 1]."""
    pixels = np.asarray(Image.open(picture).convert("RGB"))
    repeats = (-(-height // pixels.shape[0]), -(-width // pixels.shape[1]), 1)
    pixels = np.tile(pixels, repeats)[:height, :width]
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1


def opened(weights: Path, device: torch.device, dtype: torch.dtype, height: int, width: int) -> compact.CompactStream:
    spec = StreamSpec(height, width, 2 * height, 2 * width, 0, 1, "auto", "high")
    return compact.CompactRestorer(read(weights), device, dtype).open(spec)


def timed(action: Callable[[], object], device: torch.device, frames: int) -> float:
    """Seconds a frame, after two that do not count."""
    for _ in range(2):
        action()
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    for _ in range(frames):
        action()
    wait()
    return (time.perf_counter() - start) / frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--tile", type=int)
    options = parser.parse_args()
    device = torch.device(options.device)
    if options.tile is not None:
        compact.TILE[device.type] = options.tile
    print(f"{device.type}, torch {torch.__version__}, {torch.get_num_threads()} threads, tile {compact.TILE}")
    print("| size | dtype | fps | max error | PSNR |\n|---|---|---|---|---|")
    for name, (height, width) in SIZES.items():
        frame = source(options.picture, height, width)
        wanted = next(opened(options.weights, torch.device("cpu"), torch.float32, height, width).push(frame))
        for dtype in DTYPES[device.type]:
            stream, given = opened(options.weights, device, dtype, height, width), frame.to(device)
            found = next(stream.push(given)).cpu()
            error = (found - wanted).abs().max().item()
            noise = (found - wanted).square().mean().item()
            ratio = 10 * math.log10(4 / noise) if noise else math.inf  # the range is 2 wide
            seconds = timed(lambda: list(stream.push(given)), device, options.frames)  # noqa: B023
            cells = f"{1 / seconds:.1f} | {error * 127.5:.3f}/255 | {ratio:.1f} dB"
            print(f"| {name} | {str(dtype)[6:]} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
