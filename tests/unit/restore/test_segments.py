"""Segments: where they end, what is kept of them, and what a disturbed run makes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support import make_video, until
from upres.errors import DiskFull
from upres.media.decode import FrameReader
from upres.media.encode import FrameWriter
from upres.media.probe import probe
from upres.models.limits import Limits
from upres.models.restorer import StreamSpec
from upres.restore.pipeline import restore
from upres.restore.segments import Piece, Segments, SegmentSink
from upres.tasks import Progress, TaskSpec


def frames(count: int, first: int = 0) -> np.ndarray:
    return np.stack([np.full((16, 16, 3), 7 * (first + n) % 256, np.uint8) for n in range(count)])


def write(segments: Segments, pieces: list[Piece], least: int) -> list[tuple[int, int, int]]:
    def times(first: int, count: int) -> tuple[range, Fraction]:
        return range(first, first + count), Fraction(1, 24)

    def open_writer(path: Path) -> FrameWriter:
        return FrameWriter(path, width=16, height=16, fps=Fraction(24))

    with SegmentSink(segments, "mp4", open_writer, times, least) as sink:
        for piece in pieces:
            sink.write(piece)
        sink.end()
    return [(entry.first, entry.frames, entry.fresh) for entry in segments.entries]


def pieces(sizes: list[int], fresh: set[int]) -> list[Piece]:
    made, first = [], 0
    for size in sizes:
        latest = max(point for point in fresh if point <= first)
        made.append(Piece(frames(size, first), first, latest))
        first += size
    return made


@pytest.mark.parametrize(("sizes", "fresh", "expected"), [
    ([1] * 11, set(range(12)), [(0, 4, 4), (4, 4, 8), (8, 3, 10)]),  # begins anew at every frame: as short as allowed
    ([3] * 5, {0}, [(0, 8, 0), (8, 7, 0)]),  # never: as long as allowed, in the midst of a piece
    ([2, 4, 4, 2], {0, 6}, [(0, 6, 6), (6, 6, 6)]),  # at a cut
    ([2, 4, 4, 2], {0, 2}, [(0, 8, 2), (8, 4, 2)]),  # a cut that comes too early is not taken
])  # fmt: skip
def test_where_segments_end(
    tmp_path: Path, sizes: list[int], fresh: set[int], expected: list[tuple[int, int, int]]
) -> None:
    segments = Segments.open(tmp_path / "work", {})
    assert write(segments, pieces(sizes, fresh), least=4) == expected
    assert Segments.open(tmp_path / "work", {}).entries == segments.entries


def test_only_what_was_entered_counts_and_strays_are_removed(tmp_path: Path) -> None:
    segments = Segments.open(tmp_path / "work", {"a": 1})
    write(segments, pieces([1] * 8, set(range(9))), least=4)
    (tmp_path / "work" / "000001.json").unlink()  # killed between the file and its entry
    again = Segments.open(tmp_path / "work", {"a": 1})
    assert (again.frames, again.fresh, again.ending) == (4, 4, None)
    assert sorted(path.name for path in again.folder.iterdir()) == ["000000.json", "000000.mp4", "work.json"]


def test_an_equal_order_takes_over_what_another_left_unless_that_is_at_work(tmp_path: Path) -> None:
    with Segments.held(tmp_path / "first", {"a": 1}) as first:
        write(first, pieces([1] * 8, set(range(9))), least=4)
        with Segments.held(tmp_path / "second", {"a": 1}) as second:
            assert second.frames == 0
    with Segments.held(tmp_path / "third", {"a": 2}) as third:
        assert third.frames == 0
    (tmp_path / "second" / "work.json").unlink()
    with Segments.held(tmp_path / "fourth", {"a": 1}) as fourth:
        assert fourth.frames == 8 and not (tmp_path / "first").exists()


def test_a_folder_that_a_stopped_process_holds_is_left_to_it(tmp_path: Path) -> None:
    with Segments.held(tmp_path / "task", {"a": 1}) as ours, Segments.held(tmp_path / "task", {"a": 1}) as theirs:
        assert ours.folder != theirs.folder


def test_work_of_another_order_is_thrown_away(tmp_path: Path) -> None:
    write(Segments.open(tmp_path / "work", {"a": 1}), pieces([1] * 8, set(range(9))), least=4)
    assert Segments.open(tmp_path / "work", {"a": 2}).frames == 0


class Model:
    """Adds to each frame the mean of those since the last cut; `kind` says whether it begins anew at cuts."""

    def __init__(self, kind: str, cuts: tuple[int, ...] = (), lead_in: int = 0) -> None:
        self.limits, self.device, self.footprint = Limits(takes="source", lead_in=lead_in), torch.device("cpu"), None
        self.kind, self.cuts, self.pushed = kind, cuts, 0

    def open(self, spec: StreamSpec) -> Memory | ForgetfulMemory:
        return ForgetfulMemory(self, spec) if self.kind == "cuts" else Memory(self, spec)


class Memory:
    """Knows a cut by the step in brightness, so that it finds the same ones wherever it begins."""

    def __init__(self, owner: Model, spec: StreamSpec) -> None:
        self.owner, self.lead_in = owner, spec.lead_in
        self.size = (spec.output_height, spec.output_width)
        self.seen: list[Tensor] = []
        self.given, self.begun = 0, 0

    def push(self, frames: Tensor) -> Iterator[Tensor]:
        for frame in frames:
            self.owner.pushed += 1
            if self.lead_in:
                self.lead_in -= 1
                continue
            if self.owner.kind == "cuts" and self.seen and (frame.mean() - self.seen[-1].mean()).abs() > 0.2:
                self.seen, self.begun = [], self.given
            self.seen.append(frame)
            mean = torch.stack(self.seen).mean(0, keepdim=True)
            self.given += 1
            yield torch.nn.functional.interpolate(0.5 * frame[None] + 0.5 * mean, size=self.size)

    def flush(self) -> Iterator[Tensor]:
        return iter(())


class ForgetfulMemory(Memory):
    @property
    def fresh(self) -> int:
        return self.begun


class Stop(Exception):
    pass


def result(source: Path, folder: Path, model: Model, stops: list[int], **more: object) -> tuple[np.ndarray, list[int]]:
    """Frames of the result, and at how many each attempt began."""
    began: list[int] = []

    def run(stop: int | None) -> None:
        began.append(-1)

        def report(progress: Progress) -> None:
            began[-1] = progress.frames_done if began[-1] < 0 else began[-1]
            if stop is not None and progress.frames_done >= stop:
                until(lambda: entered(folder / "work") > 0, "a segment is entered")
                raise Stop

        order = {"input_path": str(source), "resolution": 48, "color_correction": "none", **more}
        spec = TaskSpec.model_validate(order)
        restore(spec, model, folder / "out.mp4", report, work=folder / "work", segment_frames=4)

    for stop in stops:
        with pytest.raises(Stop):
            run(stop)
        assert not (folder / "out.mp4").exists()
    run(None)
    with FrameReader(probe(folder / "out.mp4")) as reader:
        return np.concatenate(list(reader)), began


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 frames, a cut at 10 and at 21."""
    from tests.media.clips import ffmpeg

    path = tmp_path_factory.mktemp("shots") / "shots.mp4"
    light = "geq=lum='if(lt(N,10),40,if(lt(N,21),190,90))+2*mod(N,7)+X/4':cb=128+N:cr=128"
    ffmpeg("-f", "lavfi", "-i", f"color=s=64x48:r=24,format=yuv444p,{light}", "-frames:v", "30", "-qp", "0", path)
    return path


@pytest.mark.parametrize("kind", ["cuts", "whole clip"])
def test_a_disturbed_run_gives_the_same_frames_whatever_the_model_remembers(
    shots: Path, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole, _ = result(shots, tmp_path / "a", Model(kind, lead_in=2), [])
    disturbed, began = result(shots, tmp_path / "b", Model(kind, lead_in=2), [9, 15, 27])
    assert np.array_equal(whole, disturbed) and len(whole) == 30
    assert began[0] == 0 and began[1:] == sorted(began[1:]) and began[1] > 0


def test_a_model_that_begins_anew_at_cuts_is_led_in_from_the_last_one_only(shots: Path, tmp_path: Path) -> None:
    model = Model("cuts", lead_in=2)
    (tmp_path / "b").mkdir()
    with pytest.raises(Stop):
        result_until(shots, tmp_path / "b", model, 28, kept=21)
    model.pushed = 0
    result(shots, tmp_path / "b", model, [])
    assert model.pushed == 30 - 21 + 2


def entered(work: Path) -> int:
    """Frames of finished segments; the writer is a thread of its own, behind what is reported."""
    return sum(json.loads(entry.read_text())["frames"] for entry in work.glob("0*.json"))


def result_until(source: Path, folder: Path, model: Model, stop: int, kept: int = 0) -> None:
    """Stops at `stop` frames or later, of which `kept` are in finished segments."""

    def report(progress: Progress) -> None:
        if progress.frames_done >= stop:
            until(lambda: entered(folder / "work") >= kept, f"{kept} frames are entered")
            raise Stop

    spec = TaskSpec(input_path=str(source), resolution=48, color_correction="none")
    restore(spec, model, folder / "out.mp4", report, work=folder / "work", segment_frames=4)


def test_an_input_that_changed_begins_from_the_start(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", frames=12, sound=False)
    with pytest.raises(Stop):
        result_until(source, tmp_path, Model("cuts"), 10)
    make_video(source, frames=12, size="80x48", sound=False)
    _, began = result(source, tmp_path, Model("cuts"), [])
    assert began == [0]


def test_a_work_folder_that_cannot_be_written_fails_clearly_and_what_is_finished_stays(tmp_path: Path) -> None:
    """The second segment's file is a device that is always full."""
    source = make_video(tmp_path / "in.mp4", frames=20, sound=False)
    seen: list[int] = []

    def report(progress: Progress) -> None:
        seen.append(progress.frames_done)
        second = tmp_path / "work" / "000001.mp4"
        if progress.frames_done == 2 and not second.is_symlink():
            second.symlink_to("/dev/full")

    spec = TaskSpec(input_path=str(source), resolution=48, batch_size=1, color_correction="none")
    with pytest.raises(DiskFull, match="the disk is full"):
        restore(spec, Model("whole clip"), tmp_path / "out.mp4", report, work=tmp_path / "work", segment_frames=4)
    assert (tmp_path / "work" / "000000.json").exists() and not (tmp_path / "out.mp4").exists()
    _, began = result(source, tmp_path, Model("whole clip"), [], batch_size=1)
    assert began == [8]
