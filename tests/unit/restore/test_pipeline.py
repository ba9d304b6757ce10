"""The whole way of a frame, with restorers written for the test: ones that hold frames back, pad, lie or break."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from tests.support import make_video
from upres.errors import MediaFailed, TaskCancelled
from upres.media.decode import FrameReader
from upres.media.probe import probe
from upres.models.limits import Limits
from upres.models.restorer import StreamSpec
from upres.restore.pipeline import restore
from upres.tasks import Progress, TaskSpec


class Enlarger:
    """Nearest-neighbour enlargement that keeps back `delay` frames until more come; `lost` of them for ever."""

    def __init__(self, limits: Limits, *, delay: int = 0, lost: int = 0, extra: int = 0) -> None:
        self.limits, self.device, self.footprint = limits, torch.device("cpu"), None
        self.delay, self.lost, self.extra = delay, lost, extra
        self.specs: list[StreamSpec] = []

    def open(self, spec: StreamSpec) -> EnlargerStream:
        self.specs.append(spec)
        return EnlargerStream(self, spec)


class EnlargerStream:
    def __init__(self, owner: Enlarger, spec: StreamSpec) -> None:
        self.owner, self.spec = owner, spec
        self.held: list[Tensor] = []

    def push(self, frames: Tensor) -> Iterator[Tensor]:
        assert frames.shape[-2:] == (self.spec.input_height, self.spec.input_width)
        size = (self.spec.output_height, self.spec.output_width)
        self.held.extend(functional.interpolate(frames, size=size, mode="nearest"))
        while len(self.held) > self.owner.delay:
            yield self.held.pop(0)[None]

    def flush(self) -> Iterator[Tensor]:
        kept = self.held[self.owner.lost :] + self.held[:1] * self.owner.extra
        if kept:
            yield torch.stack(kept)


SOURCE, PADDED = Limits(takes="source"), Limits(takes="target", multiple_of=16)


def ignore(progress: Progress) -> None:
    pass


def spec(path: Path, resolution: int, **more: object) -> TaskSpec:
    order = {"input_path": str(path), "resolution": resolution, "color_correction": "none"}
    return TaskSpec.model_validate(order | more)


def frames_of(path: Path) -> np.ndarray:
    with FrameReader(probe(path)) as reader:
        return np.concatenate(list(reader))


@pytest.mark.parametrize("limits", [SOURCE, PADDED], ids=["source", "target"])
@pytest.mark.parametrize("delay", [0, 3, 100])
def test_every_frame_comes_out_in_order_however_long_the_model_keeps_it(
    small_video: Path, tmp_path: Path, limits: Limits, delay: int
) -> None:
    output = tmp_path / "out.mp4"
    outcome = restore(spec(small_video, 96), Enlarger(limits, delay=delay), output, ignore)
    before, after = frames_of(small_video), frames_of(output)
    assert outcome.frames == len(after) == len(before) == 9
    assert after.shape[1:] == (96, 128, 3) and probe(output).fps == probe(small_video).fps
    enlarged = before.repeat(2, axis=1).repeat(2, axis=2)
    error = np.abs(after.astype(int) - enlarged).mean(axis=(1, 2, 3))
    shifted = np.abs(after[1:].astype(int) - enlarged[:-1]).mean(axis=(1, 2, 3))
    assert error.max() < 12 and (error[1:] < shifted).all()  # H.264 is lossy; a frame out of place is worse


def test_the_model_gets_frames_padded_to_its_grid_and_the_padding_is_cut_off(small_video: Path, tmp_path: Path) -> None:
    restorer = Enlarger(PADDED)
    outcome = restore(spec(small_video, 90), restorer, tmp_path / "out.mp4", ignore)
    assert (restorer.specs[0].input_height, restorer.specs[0].input_width) == (96, 128)
    assert (outcome.size.height, outcome.size.width) == (90, 120)
    assert frames_of(tmp_path / "out.mp4").shape[1:3] == (90, 120)


def test_sound_is_carried(small_video: Path, tmp_path: Path) -> None:
    restore(spec(small_video, 96), Enlarger(SOURCE), tmp_path / "out.mp4", ignore)
    assert probe(tmp_path / "out.mp4").audio == probe(small_video).audio != ()


@pytest.mark.parametrize(("fault", "said"), [({"lost": 2}, "kept 2 frames back"), ({"extra": 1}, "gave")])
def test_a_model_that_loses_or_invents_frames_fails_the_task(
    small_video: Path, tmp_path: Path, fault: dict[str, int], said: str
) -> None:
    with pytest.raises(MediaFailed, match=said):
        restore(spec(small_video, 96), Enlarger(SOURCE, delay=3, **fault), tmp_path / "out.mp4", ignore)
    assert list(tmp_path.iterdir()) == []


def test_a_stop_in_the_middle_leaves_no_file_and_no_process(small_video: Path, tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.frames_done >= 3:
            raise TaskCancelled("enough")

    with pytest.raises(TaskCancelled):
        restore(spec(small_video, 96, batch_size=1), Enlarger(SOURCE), tmp_path / "out.mp4", stop)
    assert list(tmp_path.iterdir()) == []
    assert not [child for child in psutil.Process().children(recursive=True) if "ffmpeg" in child.name()]


def test_progress_counts_every_frame_once(small_video: Path, tmp_path: Path) -> None:
    told: list[Progress] = []
    restore(spec(small_video, 96), Enlarger(SOURCE, delay=2), tmp_path / "out.mp4", told.append)
    done = [progress.frames_done for progress in told]
    assert done == sorted(done) and done[0] == 0 and done[-1] == 9
    assert told[-1].phase == "finishing" and {progress.frames_total for progress in told} == {9}


def test_what_goes_before_the_first_frame_is_told_from_the_run(tmp_path: Path) -> None:
    """A first window that compiles for half a second; then frames come at once."""

    class Compiler(Enlarger):
        def open(self, spec: StreamSpec) -> EnlargerStream:
            stream = super().open(spec)
            push, compiled = stream.push, threading.Event()

            def slow_at_first(frames: Tensor) -> Iterator[Tensor]:
                if not compiled.is_set():
                    compiled.wait(0.5)
                    compiled.set()
                yield from push(frames)

            stream.push = slow_at_first  # type: ignore[method-assign]
            return stream

    clip = make_video(tmp_path / "clip.mp4", frames=40, sound=False)
    began = time.monotonic()
    outcome = restore(spec(clip, 96, batch_size=1), Compiler(SOURCE), tmp_path / "out.mp4", ignore)
    assert 0 < outcome.running_s < time.monotonic() - began - 0.5
    assert (outcome.made, outcome.following) == (40, 39)


def test_nothing_follows_where_the_model_holds_all_frames_back(small_video: Path, tmp_path: Path) -> None:
    outcome = restore(spec(small_video, 96), Enlarger(SOURCE, delay=100), tmp_path / "out.mp4", ignore)
    assert outcome.made == 9 and outcome.following == 0


def test_an_image_becomes_a_png_of_exactly_the_size_asked_for(small_image: Path, tmp_path: Path) -> None:
    restore(spec(small_image, 55), Enlarger(SOURCE), tmp_path / "out.png", ignore)
    with Image.open(tmp_path / "out.png") as image:
        assert (image.format, image.size, image.mode) == ("PNG", (73, 55), "RGB")


def test_alpha_is_restored_with_the_picture(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (20, 30, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    restore(spec(tmp_path / "in.png", 40), Enlarger(SOURCE), tmp_path / "out.png", ignore)
    with Image.open(tmp_path / "out.png") as image:
        assert np.array_equal(np.asarray(image), pixels.repeat(2, axis=0).repeat(2, axis=1))


def test_colours_follow_the_source_when_asked(small_image: Path, tmp_path: Path) -> None:
    class Darkener(Enlarger):
        def open(self, spec: StreamSpec) -> EnlargerStream:
            stream = super().open(spec)
            push = stream.push
            stream.push = lambda frames: (frame - 0.5 for frame in push(frames))  # type: ignore[method-assign]
            return stream

    means = {}
    for mode in ("none", "adain", "lab"):
        restore(spec(small_image, 72, color_correction=mode), Darkener(SOURCE), tmp_path / "out.png", ignore)
        with Image.open(tmp_path / "out.png") as image:
            means[mode] = np.asarray(image).mean()
    wanted = np.asarray(Image.open(small_image)).mean()
    assert means["none"] < wanted - 30
    assert abs(means["adain"] - wanted) < 5 and abs(means["lab"] - wanted) < 5


def test_memory_does_not_grow_with_the_clip(tmp_path: Path) -> None:
    """Resident memory while the second half of a clip is restored, against the first half."""
    clip = make_video(tmp_path / "long.mp4", frames=200, size="320x240", sound=False)  # 46 MB of frames
    seen: list[tuple[int, int]] = []
    process = psutil.Process()

    def look(progress: Progress) -> None:
        seen.append((progress.frames_done, process.memory_info().rss))

    restore(spec(clip, 240), Enlarger(SOURCE), tmp_path / "out.mp4", look)
    early = max(rss for done, rss in seen if 20 <= done <= 80)
    late = max(rss for done, rss in seen if done > 120)
    assert late < early + 12 * 2**20
