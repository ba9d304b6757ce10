"""Real frames in one file: clips and stills as JPEGs, one clip of it held out. Knows no networks.

    python -m tests.bench.gpu.footage OUT.npz HELD@SECONDS FILE[@SECONDS] ...

A FILE with SECONDS gives CLIP frames from there on, one without gives a still. Nothing is larger than 960 x 540.
"""

from __future__ import annotations

import io
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

CLIP, HELD = 9, 21  # frames
FASTEST = 6  # pixels a frame that a still is moved by, when it stands in for a clip
QUALITY = 3  # ffmpeg's; 2 is the best


@dataclass(frozen=True)
class Footage:
    held: Tensor  # T H W 3, uint8; in no clip
    clips: list[Tensor]  # likewise; of one frame: stills

    @property
    def frames(self) -> int:
        return sum(map(len, self.clips))

    def batch(self, count: int, frames: int, size: int, draw: random.Random) -> Tensor:
        """count 3 frames size size, [-1, 1]: places, sizes, directions and brightness at random."""
        return torch.stack([self._crop(frames, size, draw) for _ in range(count)])

    def _crop(self, frames: int, size: int, draw: random.Random) -> Tensor:
        clip = draw.choice(self.clips)
        moves = len(clip) >= frames > 1
        first = draw.randrange(len(clip) - frames + 1 if moves else len(clip))
        height, width = clip.shape[1:3]
        side = min(round(size * draw.uniform(1.0, 1.6)), height, width)
        y, x = draw.uniform(0, height - side), draw.uniform(0, width - side)
        down, right = (0.0, 0.0) if moves else (draw.uniform(-FASTEST, FASTEST) for _ in range(2))
        cuts = []
        for t in range(frames):
            top = min(max(0, round(y + down * t)), height - side)
            left = min(max(0, round(x + right * t)), width - side)
            cuts.append(clip[first + t if moves else first, top : top + side, left : left + side])
        pixels = torch.stack(cuts).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
        pixels = F.interpolate(pixels, (size, size), mode="bicubic", antialias=side > size)
        pixels = pixels * draw.uniform(0.8, 1.15) + draw.uniform(-0.1, 0.1)
        turned = [axis for axis, odds in ((3, 0.5), (2, 0.2)) if draw.random() < odds]
        return pixels.flip(turned).clamp_(-1, 1).transpose(0, 1)


def load(path: Path, device: torch.device) -> Footage:
    with np.load(path) as held:
        jpegs, ends, lengths = held["jpegs"], held["ends"], held["lengths"]
    frames = iter([_decoded(jpeg) for jpeg in np.split(jpegs, ends[:-1])])
    clips = [torch.stack([next(frames) for _ in range(length)]).to(device) for length in lengths]
    return Footage(clips[0], clips[1:])


def _decoded(jpeg: np.ndarray) -> Tensor:
    """H W 3, by whichever decoder there is."""
    try:
        from torchvision.io import ImageReadMode, decode_jpeg
    except ImportError:
        from PIL import Image

        with Image.open(io.BytesIO(jpeg.tobytes())) as picture:
            return torch.from_numpy(np.array(picture.convert("RGB")))
    pixels: Tensor = decode_jpeg(torch.from_numpy(jpeg.copy()), mode=ImageReadMode.RGB)
    return pixels.permute(1, 2, 0).contiguous()


def pack(out: Path, held: str, files: list[str]) -> None:
    clips = [list(_jpegs(held, HELD)), *(list(_jpegs(file, CLIP)) for file in files)]
    whole = [np.frombuffer(jpeg, np.uint8) for clip in clips for jpeg in clip]
    out.parent.mkdir(parents=True, exist_ok=True)
    np.savez(out, jpegs=np.concatenate(whole), ends=np.cumsum([len(jpeg) for jpeg in whole]),
             lengths=np.array([len(clip) for clip in clips]))  # fmt: skip
    print(f"{out}: {len(clips[0])} frames held out, {len(files)} clips and stills of {len(whole) - len(clips[0])} "
          f"frames, {out.stat().st_size / 1e6:.1f} MB")  # fmt: skip


def _jpegs(name: str, frames: int) -> Iterator[bytes]:
    import imageio_ffmpeg

    file, at, seconds = name.partition("@")
    # from its start, and not by seeking: not every file's key frames are whole
    passes = [f"trim=start={seconds}"] if at else []
    passes += ["scale=iw*min(1\\,max(960/iw\\,540/ih)):-2", "crop=min(iw\\,960):min(ih\\,540)"]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", file, "-vf", ",".join(passes),
                        "-frames:v", str(frames if at else 1), "-pix_fmt", "yuvj444p", "-q:v", str(QUALITY),
                        f"{folder}/%05d.jpg"], check=True)  # fmt: skip
        made = sorted(Path(folder).iterdir())
        assert len(made) == (frames if at else 1), f"{name}: {len(made)} frames"
        for path in made:
            yield path.read_bytes()


if __name__ == "__main__":
    pack(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
