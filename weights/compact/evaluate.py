"""Measures `compact` on clips it never saw, against bicubic and Lanczos, and prints the table of README.md.

    python evaluate.py compact_x2.safetensors city=demo_hr.mp4 bbb=bigbuckbunny.mp4 [--crops crops.png city:0:0:40:250]

Each clip's frames are halved in three ways (`DAMAGES`), doubled again and compared with the original: PSNR and SSIM of
luma (BT.601, full range, whole frame, after rounding to 8 bits). FRAMES frames, spread evenly over the clip, count.
`--crops` draws named places side by side: CLIP:FRAME:DAMAGE:TOP:LEFT.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from prepare import run, through_h264
from torch.nn import functional

from upres.models.compact.checkpoint import read
from upres.models.compact.restorer import CompactRestorer
from upres.models.restorer import StreamSpec

FRAMES = 12
CRF = 30
CROP, ZOOM = 88, 2  # pixels of the original, and how large each is drawn
Frame = np.ndarray  # H W 3 uint8


def frames_of(path: Path) -> np.ndarray:
    """All frames, T H W 3 uint8, sides cut to even numbers."""
    head = run("-i", str(path), "-frames:v", "1", "-f", "image2pipe", "-c:v", "ppm", "-").split(b"\n", 2)
    width, height = (int(value) for value in head[1].split())
    raw = run("-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-fps_mode", "passthrough", "-")
    frames = np.frombuffer(raw, dtype=np.uint8).reshape(-1, height, width, 3)
    return frames[:, : height // 2 * 2, : width // 2 * 2]


def resized(frame: Frame, size: tuple[int, int], resampling: Image.Resampling) -> Frame:
    """`size` is width, height, as Pillow has it."""
    return np.asarray(Image.fromarray(frame).resize(size, resampling))


def halved(frames: np.ndarray, resampling: Image.Resampling) -> np.ndarray:
    size = (frames.shape[2] // 2, frames.shape[1] // 2)
    return np.stack([resized(frame, size, resampling) for frame in frames])


DAMAGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "area": lambda frames: halved(frames, Image.Resampling.BOX),
    "bicubic": lambda frames: halved(frames, Image.Resampling.BICUBIC),
    f"area + H.264 crf {CRF}": lambda frames: through_h264(halved(frames, Image.Resampling.BOX), CRF),
}


def doubled(frame: Frame, resampling: Image.Resampling) -> Frame:
    return resized(frame, (2 * frame.shape[1], 2 * frame.shape[0]), resampling)


def methods(weights: list[Path]) -> dict[str, Callable[[Frame], Frame]]:
    known: dict[str, Callable[[Frame], Frame]] = {
        "bicubic": lambda frame: doubled(frame, Image.Resampling.BICUBIC),
        "Lanczos": lambda frame: doubled(frame, Image.Resampling.LANCZOS),
    }
    for path in weights:
        known[path.stem] = network(CompactRestorer(read(path), torch.device("cpu"), torch.float32))
    return known


def network(restorer: CompactRestorer) -> Callable[[Frame], Frame]:
    def apply(frame: Frame) -> Frame:
        height, width, _ = frame.shape
        spec = StreamSpec(height, width, 2 * height, 2 * width, 0, 1, "auto", "high")
        given = torch.tensor(frame).permute(2, 0, 1)[None].float() / 127.5 - 1
        found = next(restorer.open(spec).push(given))
        return ((found[0].permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).byte().numpy()

    return apply


def luma(frame: Frame) -> torch.Tensor:
    """1 1 H W, float64, 0 to 255."""
    return torch.from_numpy(frame.astype(np.float64) @ np.array([0.299, 0.587, 0.114]))[None, None]


def psnr(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return 10 * math.log10(255**2 / float((found - wanted).square().mean()))


def ssim(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Wang et al. 2004: Gaussian window of 11 pixels, sigma 1.5; no border."""
    taps = torch.exp(-((torch.arange(11, dtype=torch.float64) - 5) ** 2) / (2 * 1.5**2))
    window = torch.outer(taps, taps) / taps.sum() ** 2

    def mean(x: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(x, window[None, None])

    a, b = mean(found), mean(wanted)
    variances = mean(found**2) - a**2 + mean(wanted**2) - b**2
    covariance = mean(found * wanted) - a * b
    one, two = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    score = (2 * a * b + one) * (2 * covariance + two) / ((a**2 + b**2 + one) * (variances + two))
    return float(score.mean())


def table(clips: dict[str, np.ndarray], known: dict[str, Callable[[Frame], Frame]]) -> None:
    print("| clip | halved by | " + " | ".join(known) + " |")
    print("|---" * (2 + len(known)) + "|")
    for clip, frames in clips.items():
        chosen = np.linspace(0, len(frames) - 1, FRAMES).round().astype(int)
        for damage, function in DAMAGES.items():
            given = function(frames)
            cells = []
            for method in known.values():
                pairs = [(luma(method(given[index])), luma(frames[index])) for index in chosen]
                scores = [(psnr(*pair), ssim(*pair)) for pair in pairs]
                cells.append("{:.2f} / {:.4f}".format(*np.mean(scores, axis=0)))
            print(f"| {clip} | {damage} | " + " | ".join(cells) + " |", flush=True)


def crops(places: list[str], target: Path, clips: dict[str, np.ndarray], known: dict[str, Callable]) -> None:
    """One row a place, one column a method, the original last."""
    side, label = CROP * ZOOM, 14
    sheet = Image.new("RGB", ((len(known) + 1) * (side + 4), len(places) * (side + label + 4)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, place in enumerate(places):
        clip, *numbers = place.split(":")
        index, damage, top, left = (int(number) for number in numbers)
        given = list(DAMAGES.values())[damage](clips[clip])[index]
        pictures = {name: method(given) for name, method in known.items()} | {"original": clips[clip][index]}
        for column, (name, picture) in enumerate(pictures.items()):
            corner = (column * (side + 4), row * (side + label + 4))
            crop = Image.fromarray(picture[top : top + CROP, left : left + CROP])
            sheet.paste(crop.resize((side, side), Image.Resampling.NEAREST), (corner[0], corner[1] + label))
            draw.text(corner, f"{clip}, {list(DAMAGES)[damage]}: {name}", fill="black")
    sheet.save(target, optimize=True)
    print(f"{target}: {target.stat().st_size} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", help="weights files, and clips as NAME=FILE")
    parser.add_argument("--crops", nargs="+", metavar="TARGET CLIP:FRAME:DAMAGE:TOP:LEFT")
    arguments = parser.parse_args()
    known = methods([Path(file) for file in arguments.files if "=" not in file])
    named = [file.split("=", 1) for file in arguments.files if "=" in file]
    clips = {name: frames_of(Path(file)) for name, file in named}
    if arguments.crops:
        crops(arguments.crops[1:], Path(arguments.crops[0]), clips, known)
    else:
        table(clips, known)


if __name__ == "__main__":
    main()
