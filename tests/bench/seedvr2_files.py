"""SeedVR2 of full size with random weights on files, through the whole pipeline: read, restored, coloured, written.

    PYTHONPATH=src python -m tests.bench.seedvr2_files files CLIP.mp4:1080:21 LARGE.mp4:2160:5 --models 3B 7B
    PYTHONPATH=src python -m tests.bench.seedvr2_files modes CLIP.mp4:1080:21 --cut 168
    PYTHONPATH=src python -m tests.bench.seedvr2_files long made:1080:5 --minutes 10 --rate 5

A clip is a file, the short side it shall get and frames a window. Needs what a worker needs.

files   each model and storage on each clip: seconds a frame by network and in all, peak bytes predicted and measured
modes   the first model and storage, in stream and in batch mode: steps between frames at the borders of batches over
        those beside them, in each result and in the source, and seconds a frame
long    a clip of --minutes at --rate frames a second, made by ffmpeg: bytes on device and host as it goes
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch

from tests.bench.seedvr2_gpu import PHASES, Bench, add_options, host_gib
from tests.support import ffmpeg
from upres.media.decode import Reading
from upres.media.folder import open_reader
from upres.media.probe import probe
from upres.models.restorer import Restorer, Stream, StreamSpec
from upres.models.seedvr2.restorer import SeedVr2Restorer
from upres.restore.descent import Descent
from upres.restore.frames import descent_for
from upres.restore.memory import GB, room_bytes
from upres.restore.pipeline import Outcome, restore
from upres.restore.plan import Size, plan_clip
from upres.tasks import Progress, TaskSpec, order


@dataclass(frozen=True, slots=True)
class Order:
    """`FILE:SHORT_SIDE:FRAMES_A_WINDOW`"""

    path: Path
    spec: TaskSpec

    @classmethod
    def parsed(cls, text: str) -> Order:
        path, side, window = text.rsplit(":", 2)
        return cls(Path(path), order(input_path=path, resolution=int(side), batch_size=int(window)))


class Batches:
    """A restorer whose streams are batches, as the public implementation makes them."""

    def __init__(self, owner: SeedVr2Restorer) -> None:
        self.limits, self.device, self.footprint, self._owner = owner.limits, owner.device, owner.footprint, owner

    def open(self, spec: StreamSpec) -> Stream:
        return self._owner.open_batches(spec)


class FileBench:
    def __init__(self, options: argparse.Namespace) -> None:
        self.bench, self.options = Bench(options), options
        self.on_gpu = self.bench.device.type == "cuda"

    def run(self) -> None:
        for model, storage in product(self.options.models, self.options.storage):
            owner = self.bench.restorer(model, storage)
            with tempfile.TemporaryDirectory(dir=self.options.folder) as folder:
                getattr(self, self.options.part)(owner, Path(folder))
            if self.options.part != "files":
                return
            del owner
            self.bench.free()

    def files(self, owner: SeedVr2Restorer, folder: Path) -> None:
        for clip in self.options.clips:
            plan = self.descent(owner, clip).plan
            assert plan is not None
            with self.bench.phases(owner) as (seconds, peaks):
                outcome, taken = self.restored(clip.spec, owner, folder / "out.mp4")
            by_network = ", ".join(f"{name} {seconds[name] / outcome.frames:.3f}" for name in PHASES)
            print(f"  {clip.path.name}: {outcome.frames} frames to {outcome.size}, {plan}: {taken:.3f} s a frame; "
                  f"{by_network}", flush=True)  # fmt: skip
            for name in PHASES if self.on_gpu else ():
                predicted, peak = getattr(plan, name), peaks[name]
                print(f"    {name}: {peak / GB:.2f} GiB, predicted {predicted / GB:.2f} "
                      f"({100 * (predicted / peak - 1):+.1f} %)")  # fmt: skip
            if self.on_gpu:
                most = max(peaks.values())
                print(f"    in all: {most / GB:.2f} GiB, predicted {plan.peak / GB:.2f} "
                      f"({100 * (plan.peak / most - 1):+.1f} %)")  # fmt: skip
            for warning in outcome.warnings:
                print(f"    {warning}")

    def modes(self, owner: SeedVr2Restorer, folder: Path) -> None:
        (clip,) = self.options.clips
        borders = [at for at in range(clip.spec.batch_size, 10**6, clip.spec.batch_size) if at != self.options.cut]
        print(f"  source: {ratio(steps(clip.path), borders):.3f}", flush=True)
        spec = clip.spec.model_copy(update={"codec": "ffv1"})
        ways: dict[str, Restorer] = {"stream": owner, "batch": Batches(owner)}
        for name, way in ways.items():
            path = folder / f"{name}.mkv"
            outcome, taken = self.restored(spec, way, path)
            there = steps(path)
            print(f"  {name}: {outcome.frames} frames to {outcome.size}, {taken:.3f} s a frame; step at borders over "
                  f"those beside it {ratio(there, borders):.3f}; at the cut {there[self.options.cut - 1]:.1f} levels, "
                  f"elsewhere {statistics.median(there):.1f}", flush=True)  # fmt: skip
            path.unlink()

    def long(self, owner: SeedVr2Restorer, folder: Path) -> None:
        minutes, rate = self.options.minutes, self.options.rate
        source, (clip,) = folder / "long.mp4", self.options.clips
        ffmpeg("-f", "lavfi", "-i", f"testsrc2=s={self.options.made}:r={rate}:d={60 * minutes}", "-preset", "veryfast",
               "-pix_fmt", "yuv420p", str(source))  # fmt: skip
        spec = clip.spec.model_copy(update={"input_path": str(source)})
        began, reports = time.perf_counter(), 0

        def report(progress: Progress) -> None:
            nonlocal reports
            spent = time.perf_counter() - began
            if spent < reports * self.options.every:
                return
            reports += 1
            peak = torch.cuda.max_memory_allocated() / GB if self.on_gpu else 0.0
            print(f"  {progress.frames_done} of {progress.frames_total} frames, {spent:.0f} s: device at most "
                  f"{peak:.3f} GiB, host {host_gib():.3f} GiB", flush=True)  # fmt: skip
            if self.on_gpu:
                torch.cuda.reset_peak_memory_stats()

        outcome = restore(spec, owner, folder / "long-out.mp4", report, self.room(), work=folder / "work")
        taken, size = time.perf_counter() - began, (folder / "long-out.mp4").stat().st_size
        print(f"  {outcome.frames} frames to {outcome.size} in {taken:.0f} s, {size / 1e6:.0f} MB; "
              f"{outcome.warnings}", flush=True)  # fmt: skip

    def restored(self, spec: TaskSpec, owner: Restorer, path: Path) -> tuple[Outcome, float]:
        self.bench.free()
        began = time.perf_counter()
        outcome = restore(spec, owner, path, lambda _: None, self.room())
        return outcome, (time.perf_counter() - began) / outcome.frames

    def descent(self, owner: SeedVr2Restorer, clip: Order) -> Descent:
        info = probe(clip.path)
        plan = plan_clip(Size(info.height, info.width), info.frames, info.kind, clip.spec, owner.limits)
        return descent_for(plan, clip.spec, owner, self.room())

    def room(self) -> int:
        card = self.options.card * GB if self.options.card else self.bench.card_bytes()
        return room_bytes(card, 0, on_gpu=self.on_gpu)


def steps(path: Path) -> list[float]:
    """Mean absolute difference, in levels of 255, of each frame from the one before it."""
    found: list[float] = []
    last: np.ndarray | None = None
    for frame in frames(path):
        if last is not None:
            found.append(float(np.abs(frame - last).mean()))
        last = frame
    return found


def frames(path: Path) -> Iterator[np.ndarray]:
    with open_reader(probe(path), 5, Reading()) as reader:
        for block in reader:
            yield from block.astype(np.float32)


def ratio(there: list[float], borders: list[int]) -> float:
    """1: what happens at a border happens beside it as well."""
    return statistics.mean(2 * there[at - 1] / (there[at - 2] + there[at]) for at in borders if at < len(there))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("files", "modes", "long"))
    parser.add_argument("clips", nargs="+", type=Order.parsed)
    parser.add_argument("--cut", type=int, default=0, help="the first frame of the second shot, of the part `modes`")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rate", type=int, default=5)
    parser.add_argument("--made", default="960x540", help="size of the clip that the part `long` makes")
    parser.add_argument("--every", type=float, default=30, help="seconds between two lines of the part `long`")
    add_options(parser)
    FileBench(parser.parse_args()).run()


if __name__ == "__main__":
    main()
