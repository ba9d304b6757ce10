"""Where the time of a restored clip goes, beside what ffmpeg alone needs to enlarge and encode it.

    python -m tests.bench [clip] [--resolution N] [--rounds N]

Rounds alternate between the two, so that both see the same machine; the ratios are the result, the times are not.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import torch

from tests.support import ffmpeg
from upres.catalog import COMPACT, Catalog
from upres.media.decode import FrameReader
from upres.media.encode import FrameWriter
from upres.media.probe import probe
from upres.restore.color import correct
from upres.restore.pipeline import restore
from upres.restore.plan import Size, target_size
from upres.restore.tensors import resize, to_bytes, to_model, to_pixels
from upres.tasks import ColorCorrection, TaskSpec

CLIP = Path(__file__).parents[1] / "demo" / "city.mp4"


def main() -> None:
    parser = argparse.ArgumentParser(description="seconds per clip, as ratios")
    parser.add_argument("clip", nargs="?", type=Path, default=CLIP)
    parser.add_argument("--resolution", type=int, default=404)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench(options.clip, options.resolution, options.rounds, Path(folder))


def bench(clip: Path, resolution: int, rounds: int, folder: Path) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    restorer = COMPACT.load_factory()(Catalog(folder).paths(COMPACT), device)
    info = probe(clip)
    order = TaskSpec(input_path=str(clip), resolution=resolution)
    target = target_size(Size(info.height, info.width), order, "video")

    def upres(color: ColorCorrection) -> None:
        spec = TaskSpec(input_path=str(clip), resolution=resolution, color_correction=color)
        restore(spec, restorer, folder / "out.mp4", lambda progress: None)

    def lanczos() -> None:
        ffmpeg("-i", clip, "-vf", f"scale={target.width}:{target.height}:flags=lanczos", "-c:v", "libx264",
               "-crf", "18", folder / "lanczos.mp4")  # fmt: skip

    runs: dict[str, Callable[[], None]] = {
        "ffmpeg lanczos + x264": lanczos,
        "upres, color none": lambda: upres("none"),
        "upres, color lab": lambda: upres("lab"),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            with stopwatch(times[name]):
                run()
    print(f"{clip.name} {info.width}x{info.height} -> {target}, {info.frames} frames, device {device}, "
          f"torch {torch.__version__}, ffmpeg {imageio_ffmpeg.get_ffmpeg_version()}")  # fmt: skip
    base = statistics.median(times["ffmpeg lanczos + x264"])
    for name, taken in times.items():
        median = statistics.median(taken)
        print(f"  {name:24} {info.frames / median:7.1f} frames/s   {median / base:6.2f} x the time of ffmpeg alone")
    for name, seconds in stages(clip, target, folder).items():
        print(f"  stage {name:18} {seconds * 1e3:7.1f} ms a frame")


def stages(clip: Path, target: Size, folder: Path) -> dict[str, float]:
    """Each stage alone, seconds a frame, on one window after another of the clip."""
    info, taken = probe(clip), dict[str, float]()
    decoding: list[float] = []
    with stopwatch(decoding), FrameReader(info, block=5) as reader:
        blocks = list(reader)
    taken["decode"] = decoding[0] / info.frames
    source = to_model(to_pixels(blocks[0], torch.device("cpu")))
    enlarged = resize(source, target)
    for mode in ("lab", "wavelet"):
        spent: list[float] = []
        with stopwatch(spent):
            correct(mode, enlarged, enlarged)
        taken[f"color {mode}"] = spent[0] / len(source)
    frames: np.ndarray = to_bytes(enlarged)
    encoding: list[float] = []
    with stopwatch(encoding), FrameWriter(
        folder / "stage.mkv", width=target.width, height=target.height, fps=info.fps
    ) as writer:
        for _ in blocks:
            writer.write(frames)
    taken["encode"] = encoding[0] / (len(blocks) * len(frames))
    return taken


@contextmanager
def stopwatch(times: list[float]) -> Iterator[None]:
    began = time.perf_counter()
    yield
    times.append(time.perf_counter() - began)


if __name__ == "__main__":
    main()
