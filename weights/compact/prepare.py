"""Makes the training pool of `compact` from the pictures listed in DATA.md.

    python prepare.py PACKAGES POOL

PACKAGES holds one folder per package, named as in DATA.md without the version, into which it was unpacked
(`dpkg -x` for Debian, `python -m zipfile -e` for PyPI). POOL receives

    plates/*.jpg     sharp pictures, at most 1920 pixels long: what the network should give back
    clips/*.webp     frames of small H.264 clips panned over the plates, decoded: what it is given
    clips.json       for each such frame: plate, top, left of the plate's region it shows at half size, crf

Every random choice comes from SEED; run again, it makes the same pool (with the same ffmpeg and Pillow).
"""

from __future__ import annotations

import argparse
import json
import random
import string
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from PIL import Image, ImageDraw, ImageFont

SEED = 20
LONG_SIDE = 1920  # pixels of a plate; the originals are twice that, so that every plate is sharp
PLATE_QUALITY = 93
TEXT_PLATES = 3
REGION = (384, 640)  # height, width of a clip in plate pixels; the clip itself has half of it
CLIP_FRAMES = 10
KEPT_FRAMES = (0, 4, 9)  # an I frame, and two that were predicted
CLIPS_PER_MEGAPIXEL = 1.6
CRF = (18, 34)
PRESETS = ("veryfast", "medium", "slow")
FILTERS = (Image.Resampling.BOX, Image.Resampling.BICUBIC, Image.Resampling.BILINEAR)


@dataclass(frozen=True, slots=True)
class Kept:
    """One decoded frame of a clip: `file` is the half-size picture of the plate's REGION at `top`, `left`."""

    file: str
    plate: str
    top: int
    left: int
    crf: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", type=Path)
    parser.add_argument("pool", type=Path)
    arguments = parser.parse_args()
    (arguments.pool / "plates").mkdir(parents=True, exist_ok=True)
    (arguments.pool / "clips").mkdir(exist_ok=True)
    rng = random.Random(SEED)
    plates = {name: sharp(picture) for name, picture in listed(arguments.packages)}
    plates |= {f"text-{index}": lettering(rng) for index in range(TEXT_PLATES)}
    kept: list[Kept] = []
    for name, plate in plates.items():
        path = arguments.pool / "plates" / f"{name}.jpg"
        plate.save(path, quality=PLATE_QUALITY, subsampling=0)
        with Image.open(path) as stored:  # the clips must show what training will read back
            kept += clips(name, stored.convert("RGB"), arguments.pool / "clips", rng)
    (arguments.pool / "clips.json").write_text(json.dumps([asdict(one) for one in kept], indent=0))
    print(f"{len(plates)} plates, {len(kept)} clip frames")


def listed(packages: Path) -> list[tuple[str, Image.Image]]:
    """The pictures of DATA.md's table."""
    rows = [line.strip("| \n").split(" | ") for line in Path(__file__).with_name("DATA.md").read_text().splitlines()]
    return [(row[0], read(packages / row[1].split(" ")[0] / row[2])) for row in rows if len(row) == 5 and "." in row[2]]


def read(path: Path) -> Image.Image:
    if path.suffix != ".jxl":
        with Image.open(path) as picture:
            return picture.convert("RGB")
    target = path.with_suffix(".png")
    run("-y", "-i", str(path), "-frames:v", "1", "-pix_fmt", "rgb24", str(target))
    return read(target)


def run(*arguments: str, stdin: bytes = b"") -> bytes:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, check=True).stdout


def sharp(picture: Image.Image) -> Image.Image:
    """Reduced to LONG_SIDE if larger, with even sides."""
    ratio = min(1.0, LONG_SIDE / max(picture.size))
    size = [int(side * ratio) // 2 * 2 for side in picture.size]
    return picture.resize((size[0], size[1]), Image.Resampling.BICUBIC) if ratio < 1 else picture.crop((0, 0, *size))


def lettering(rng: random.Random) -> Image.Image:
    """Titles, small print, lines and discs in random colours, drawn large and reduced."""
    width, height = 2 * 1280, 2 * 720
    page = Image.new("RGB", (width, height), random_color(rng))
    draw = ImageDraw.Draw(page)
    for _ in range(40):
        x, y, size = rng.randrange(width), rng.randrange(height), rng.randrange(8, 260)
        draw.ellipse((x, y, x + size, y + size), outline=random_color(rng), width=rng.randrange(1, 12))
        draw.line(
            (x, y, rng.randrange(width), rng.randrange(height)), fill=random_color(rng), width=rng.randrange(1, 9)
        )
    for _ in range(170):
        word = "".join(rng.choices(string.ascii_letters + string.digits + " .,:", k=rng.randrange(3, 30)))
        font = ImageFont.load_default(size=rng.choice((18, 24, 30, 36, 48, 64, 96, 140)))
        draw.text((rng.randrange(-200, width), rng.randrange(height)), word, font=font, fill=random_color(rng))
    return page.resize((width // 2, height // 2), Image.Resampling.BICUBIC)


def random_color(rng: random.Random) -> tuple[int, int, int]:
    return rng.randrange(256), rng.randrange(256), rng.randrange(256)


def clips(name: str, plate: Image.Image, folder: Path, rng: random.Random) -> list[Kept]:
    """Some pans over one plate, encoded and decoded again; the kept frames are written to `folder`."""
    count = max(1, round(plate.width * plate.height / 1e6 * CLIPS_PER_MEGAPIXEL))
    if plate.width < REGION[1] or plate.height < REGION[0]:
        return []
    return [frame for index in range(count) for frame in pan(f"{name}-{index}", name, plate, folder, rng)]


def pan(stem: str, name: str, plate: Image.Image, folder: Path, rng: random.Random) -> list[Kept]:
    """Whole plate pixels a frame, so half pixels in the clip; the region turns back at the plate's edge."""
    height, width = REGION
    top, left = rng.randrange(plate.height - height + 1), rng.randrange(plate.width - width + 1)
    step_y, step_x = rng.randrange(-5, 6), rng.randrange(-7, 8)
    grain, resampling, crf = rng.choice((0.0, 0.0, 1.5, 3.0)), rng.choice(FILTERS), rng.randint(*CRF)
    noise = np.random.default_rng(rng.randrange(2**32))
    places, frames = [], []
    for _ in range(CLIP_FRAMES):
        places.append((top, left))
        region = plate.crop((left, top, left + width, top + height)).resize((width // 2, height // 2), resampling)
        pixels = np.asarray(region, dtype=np.float32) + grain * noise.standard_normal((height // 2, width // 2, 3))
        frames.append(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
        top = min(max(0, top + step_y), plate.height - height)
        left = min(max(0, left + step_x), plate.width - width)
    decoded = through_h264(np.stack(frames), crf, rng.choice(PRESETS))
    kept = []
    for index in KEPT_FRAMES:
        file = f"{stem}-{index}.webp"
        Image.fromarray(decoded[index]).save(folder / file, lossless=True, method=4)
        kept.append(Kept(file, name, *places[index], crf))
    return kept


def through_h264(frames: np.ndarray, crf: int, preset: str = "medium") -> np.ndarray:
    """T H W 3 uint8 -> the same shape, after libx264 (yuv420p) and back."""
    count, height, width, _ = frames.shape
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", "25")
    code = ("-c:v", "libx264", "-preset", preset, "-crf", str(crf), "-pix_fmt", "yuv420p", "-threads", "1")
    encoded = run(*raw, "-i", "-", *code, "-f", "matroska", "-", stdin=frames.tobytes())
    decoded = run("-i", "-", "-f", "rawvideo", "-pix_fmt", "rgb24", "-", stdin=encoded)
    return np.frombuffer(decoded, dtype=np.uint8).reshape(count, height, width, 3)


if __name__ == "__main__":
    main()
