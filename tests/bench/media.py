"""What reading and writing cost beside the model: decode, hand over, encode, each alone and all together.

    python -m tests.bench.media [--frames 120] [--size 1920x1080] [--source 960x540] [--codec h264] [--preset fast]
                                [--picture grain]

Pictures: `film` (a smooth picture and shapes that move, text, a trace of noise: ordinary) and `grain` (new in every
frame: the hardest there is). `--deep` writes 10 bits. `--source` is the size that is read, `--size` what is written: in
place of a model's work, a clip of that size that was decoded before the clock ran.

Times are CPU seconds of this process and its ffmpegs, so that other load on the machine does not count; "frames a
second and core" is their inverse.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from tests.support import ffmpeg
from upres.media.codecs import PRESETS
from upres.media.decode import FrameReader, Reading
from upres.media.encode import FrameWriter
from upres.media.output import output_for
from upres.media.probe import probe
from upres.restore.segments import Piece, Segments, SegmentSink
from upres.restore.stages import ReadAhead, WriteBehind
from upres.tasks import TaskSpec, order

BLOCK, SEGMENT, HELD = 5, 60, 12  # frames, frames, blocks
PICTURES = {
    "film": "testsrc2=s={size}:r=60,noise=alls=2:allf=t",
    "grain": "gradients=s={size}:r=60:speed=0.02:n=4,noise=alls=6:allf=t",
}  # fmt: skip


@dataclass(frozen=True)
class Cost:
    wall_s: float
    cpu_s: float


def main() -> None:
    parser = argparse.ArgumentParser(description="frames a second and core of decode, copy and encode")
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--size", default="1920x1080")
    parser.add_argument("--source", default="", help="size of the input, if it is another")
    parser.add_argument("--codec", default="h264")
    parser.add_argument("--preset", choices=PRESETS, default="medium")
    parser.add_argument("--picture", choices=tuple(PICTURES), default="film")
    parser.add_argument("--deep", action="store_true", help="read and write 10 bits a sample")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wanted = clip(folder / "wanted.mp4", options.picture, options.size, options.frames)
        source = clip(folder / "in.mp4", options.picture, options.source, options.frames) if options.source else wanted
        asked = order(input_path=str(source), codec=options.codec, preset=options.preset,
                      **({"bit_depth": 10} if options.deep else {}))  # fmt: skip
        bench(asked, wanted, folder, options.picture)


def clip(path: Path, picture: str, size: str, frames: int) -> Path:
    ffmpeg("-f", "lavfi", "-i", PICTURES[picture].format(size=size), "-frames:v", str(frames), "-c:v", "libx264",
           "-preset", "fast", "-crf", "14", "-pix_fmt", "yuv420p", path)  # fmt: skip
    return path


def bench(asked: TaskSpec, wanted: Path, folder: Path, picture: str) -> None:
    info, result = probe(Path(asked.input_path)), probe(wanted)
    output, count = output_for(asked, info), info.frames
    how = Reading(deep=output.deep)
    with FrameReader(result, BLOCK, how) as reader:
        held = list(islice(reader, HELD))

    def writer(path: Path) -> FrameWriter:
        return FrameWriter(path, width=result.width, height=result.height, fps=result.fps, output=output)

    def decode() -> None:
        with FrameReader(info, BLOCK, how) as reader:
            for _ in reader:
                pass

    def copy() -> None:
        with ReadAhead(islice(cycle(held), count // BLOCK)) as blocks, WriteBehind(np.copy) as behind:
            for block in blocks:
                behind.put(block)

    def encode() -> None:
        with writer(folder / f"one.{output.video.segment}") as file:
            for block in islice(cycle(held), count // BLOCK):
                file.write(block)

    def all_of_it() -> None:
        segments = Segments.open(folder / "work", {})
        times = lambda first, frames: (range(first, first + frames), Fraction(1, 60))  # noqa: E731
        with (
            FrameReader(info, BLOCK, how) as reader,
            SegmentSink(segments, output.video.segment, writer, times, SEGMENT) as sink,
            ReadAhead(reader) as blocks,
            WriteBehind(sink.write, finish=sink.end) as behind,
        ):
            for number, (block, other) in enumerate(zip(blocks, cycle(held), strict=False)):
                behind.put(Piece(block if info == result else other[: len(block)], number * BLOCK, 0))

    print(f"{picture} {info.width}x{info.height} to {result.width}x{result.height}, {count} frames, {output.codec} "
          f"{output.preset}, {output.bits} bits")  # fmt: skip
    for step in (decode, copy, encode, all_of_it):
        cost = costs(step)
        per_core = count / cost.cpu_s
        print(f"  {step.__name__:10} {1000 / per_core:7.1f} ms of CPU a frame, {per_core:7.1f} frames/s "
              f"and core, {count / cost.wall_s:6.1f} frames/s here", flush=True)  # fmt: skip
    size = sum(path.stat().st_size for path in (folder / "work").rglob(f"*.{output.video.segment}"))
    print(f"  {8 * size / count / result.width / result.height:.3f} bits a pixel", flush=True)


def costs(step: Callable[[], None]) -> Cost:
    began, used = time.perf_counter(), _cpu_s()
    step()
    return Cost(time.perf_counter() - began, _cpu_s() - used)


def _cpu_s() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


if __name__ == "__main__":
    main()
