"""Finished pieces of a result on disk, so that work that broke off goes on where it stopped.

A segment is a file of its own, encoded by itself: closed, synced, and then entered by a small file beside it that says
which frames it holds. Where segments end depends on the frames alone, never on when or how often the work broke off, so
a result made of them is the same frame by frame. Knows nothing of models or of how frames are encoded.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from filelock import FileLock, Timeout

from upres.media.encode import FrameWriter

DIGEST_BYTES = 1 << 20  # of the head and of the tail of an input: enough to tell files apart
FORMAT = 1
LOCK = "lock"


@dataclass(frozen=True, slots=True)
class Entry:
    """One segment. `fresh`: the frame from which the model must begin anew for the frames after this segment.

    `times` are container times of its frames in ticks of `time_base` ("numerator/denominator" seconds).
    """

    name: str
    first: int
    frames: int
    fresh: int
    times: tuple[int, ...]
    time_base: str


@dataclass(frozen=True, slots=True)
class Ending:
    """The clip was read to its end."""

    frames: int
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Segments:
    """What a folder holds of one result. Only one process may write to it: see `held`."""

    folder: Path
    entries: list[Entry] = field(default_factory=list)

    @classmethod
    def seen(cls, folder: Path) -> Segments:
        """What is there for whoever only looks: nothing is changed, and more may come meanwhile."""
        found = cls(folder)
        while (text := _text(folder / f"{len(found.entries):06}.json")) is not None:
            entry = json.loads(text)
            found.entries.append(Entry(**{**entry, "times": tuple(entry["times"])}))
        return found

    @classmethod
    def open(cls, folder: Path, identity: dict[str, Any]) -> Segments:
        """What is there of the work that `identity` describes; anything else in the folder is removed."""
        folder.mkdir(parents=True, exist_ok=True)
        described = _described(identity)
        if _text(folder / "work.json") != described:
            for old in folder.glob("*.json"):
                old.unlink()
            _write(folder / "work.json", described)
        found = cls.seen(folder)
        known = {LOCK, "work.json", "ending.json", *(entry.name for entry in found.entries)}
        known |= {f"{number:06}.json" for number in range(len(found.entries))}
        for stray in folder.iterdir():
            if stray.name not in known:
                stray.unlink()
        return found

    @classmethod
    @contextmanager
    def held(cls, folder: Path, identity: dict[str, Any]) -> Iterator[Segments]:
        """Opened, and nobody else's meanwhile. A folder that is not there yet takes over what an equal order left that
        ended without a result; one that a stopped process still holds is left to it.
        """
        if not folder.exists():
            _take_over(folder, _described(identity))
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            folder = folder.with_name(f"{folder.name}.{os.getpid()}")
            folder.mkdir(exist_ok=True)
            lock = FileLock(folder / LOCK)
            lock.acquire(timeout=0)
        try:
            yield cls.open(folder, identity)
        finally:
            lock.release()

    @property
    def frames(self) -> int:
        return self.entries[-1].first + self.entries[-1].frames if self.entries else 0

    @property
    def fresh(self) -> int:
        """Where a model must begin anew to go on: this frame or an earlier one than the first that is missing."""
        return self.entries[-1].fresh if self.entries else 0

    @property
    def paths(self) -> list[Path]:
        return [self.folder / entry.name for entry in self.entries]

    @property
    def times(self) -> tuple[list[int], Fraction]:
        base = Fraction(self.entries[0].time_base)
        return [round(time * (Fraction(e.time_base) / base)) for e in self.entries for time in e.times], base

    @property
    def ending(self) -> Ending | None:
        text = _text(self.folder / "ending.json")
        if text is None:
            return None
        ending = json.loads(text)
        return Ending(ending["frames"], tuple(ending["warnings"]))

    def next_path(self, suffix: str) -> Path:
        return self.folder / f"{len(self.entries):06}.{suffix}"

    def add(self, entry: Entry) -> None:
        """The segment's file is complete and synced."""
        _write(self.folder / f"{len(self.entries):06}.json", json.dumps(asdict(entry)))
        self.entries.append(entry)

    def end(self, warnings: Sequence[str]) -> None:
        _write(self.folder / "ending.json", json.dumps(asdict(Ending(self.frames, tuple(warnings)))))


@dataclass(frozen=True, slots=True)
class Piece:
    """Finished frames, `T H W C`, the first being number `first` of the clip; a model can begin anew at `fresh`."""

    frames: np.ndarray
    first: int
    fresh: int


Times = Callable[[int, int], tuple[Sequence[int], Fraction]]  # first frame, frames -> ticks, seconds a tick


class SegmentSink:
    """Takes pieces in order, without gaps, beginning with the first frame that is missing, and then `end`.

    A segment ends at the first frame, `least` or more after its own first, at which the model begins anew, but holds at
    most twice `least`. Call both in one long-living thread: it starts ffmpeg (see FfmpegProcess).
    """

    def __init__(
        self, segments: Segments, suffix: str, open_writer: Callable[[Path], FrameWriter], times: Times, least: int
    ) -> None:
        self._segments, self._suffix, self._open_writer = segments, suffix, open_writer
        self._times, self._least = times, least
        self._writer: FrameWriter | None = None
        self._path = segments.folder
        self._fresh = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        """A segment that has not ended is dropped."""
        if self._writer is not None:
            self._writer.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)

    def write(self, piece: Piece) -> None:
        if piece.fresh == piece.first and self._held >= self._least:
            self._fresh = piece.fresh
            self.end()
        frames = piece.frames
        while len(frames):
            room = 2 * self._least - self._held
            self._open().write(frames[:room])
            frames = frames[room:]
            self._fresh = piece.fresh
            if self._held == 2 * self._least:
                self.end()

    @property
    def _held(self) -> int:
        return 0 if self._writer is None else self._writer.frames_written

    def _open(self) -> FrameWriter:
        if self._writer is None:
            self._path = self._segments.next_path(self._suffix)
            self._writer = self._open_writer(self._path).__enter__()
        return self._writer

    def end(self) -> None:
        if self._writer is None:
            return
        writer, self._writer = self._writer, None
        writer.__exit__(None, None, None)
        first = self._segments.frames
        ticks, time_base = self._times(first, writer.frames_written)
        self._segments.add(
            Entry(self._path.name, first, writer.frames_written, self._fresh, tuple(ticks), str(time_base))
        )


def _take_over(folder: Path, described: str) -> None:
    for other in folder.parent.glob("*"):
        if _text(other / "work.json") == described:
            with suppress(Timeout, OSError), FileLock(other / LOCK).acquire(timeout=0):
                os.rename(other, folder)
                return


def _described(identity: dict[str, Any]) -> str:
    return json.dumps({"format": FORMAT, **identity}, sort_keys=True)


def file_identity(path: Path) -> dict[str, object]:
    """Tells whether a file is still the one it was: size, time of change, and the bytes at both ends; of a folder's
    files, names, sizes and times."""
    if path.is_dir():
        found = sorted((entry.name, entry.stat()) for entry in os.scandir(path))
        listing = [[name, status.st_size, status.st_mtime_ns] for name, status in found]
        return {"sha256_of_listing": hashlib.sha256(json.dumps(listing).encode()).hexdigest()}
    status = path.stat()
    digest = hashlib.sha256()
    with path.open("rb") as file:
        digest.update(file.read(DIGEST_BYTES))
        file.seek(max(0, status.st_size - DIGEST_BYTES))
        digest.update(file.read(DIGEST_BYTES))
    return {"bytes": status.st_size, "changed_ns": status.st_mtime_ns, "sha256_of_ends": digest.hexdigest()}


def _text(path: Path) -> str | None:
    try:
        return path.read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None


def _write(path: Path, text: str) -> None:
    """Whole or not at all, and on the disk when it returns."""
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
    if hasattr(os, "O_DIRECTORY"):
        folder = os.open(path.parent, os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
