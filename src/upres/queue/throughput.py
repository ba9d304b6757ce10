"""What tasks of each model took on this machine, and what another one would by that. Knows no workers and no models."""

from __future__ import annotations

import math
import sqlite3
import time
from dataclasses import dataclass

from upres.queue.database import Database
from upres.queue.store import Price

RECENT = 50  # measurements of a model that an estimate looks at
NEAREST = 5  # … and how many of them, nearest in size and length, it uses
MUCH_SMALLER = 8  # times: a task that takes its time for other things than one of our size


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was done, in how many seconds without loading the model; `overhead_s` of them do not grow with the clip:
    looking at the file, starting, compiling, the first frames' way, joining. None: not told apart in so short a task.
    """

    work: Price
    seconds: float
    overhead_s: float | None = None

    @classmethod
    def of(cls, work: Price, seconds: float, running_s: float, following: int) -> Measurement:
        """running_s: from the first frame's return until all was written; following: frames taken in that time.

        Of the frames taken earlier a part was done by then, so a pace of `running_s` by `following` is rather too slow.
        Where it is slower than the whole, there was next to no overhead, or too little to see it by.
        """
        overhead_s = seconds - running_s / following * work.frames if following else -1.0
        if overhead_s < 0:
            return cls(work, seconds, 0.0 if running_s > seconds / 2 else None)
        return cls(work, seconds, overhead_s)

    def seconds_for(self, work: Price) -> float:
        overhead_s = self.overhead_s if self.overhead_s is not None else 0.0
        share = work.frames * work.pixels / (self.work.frames * self.work.pixels)
        return overhead_s + (self.seconds - overhead_s) * share

    def only_bounds(self, work: Price) -> bool:
        """A far larger one takes less than `seconds_for` says: start and stop are multiplied, and small pictures do
        not fill a device.
        """
        short = self.overhead_s is None and work.frames > MUCH_SMALLER * self.work.frames
        return short or work.pixels > MUCH_SMALLER * self.work.pixels

    def distance(self, work: Price) -> float:
        return abs(math.log(self.work.pixels / work.pixels)) + abs(math.log(self.work.frames / work.frames))


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds that a task would take by each measurement; `at_most`: for they all are of much smaller ones."""

    seconds: tuple[float, ...] = ()
    at_most: bool = False

    def likely_s(self, guess_s: float) -> float:
        """guess_s: without any measurement."""
        if not self.seconds:
            return guess_s
        mean = sum(self.seconds) / len(self.seconds)
        return min(guess_s, mean) if self.at_most else mean


class Throughput:
    def __init__(self, database: Database) -> None:
        self._db = database

    def add(self, model: str, device: str, measured: Measurement) -> None:
        with self._db.write("measured") as tx:
            tx.execute(
                "INSERT INTO throughput (model, device, pixels, frames, seconds, overhead_s, at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (model, device, measured.work.pixels, measured.work.frames, measured.seconds, measured.overhead_s,
                 time.time()),
            )  # fmt: skip

    def times(self, model: str, work: Price) -> Times:
        """By the measurements of the model that are most like this work; without any before the first one."""
        rows = self._db.query("SELECT pixels, frames, seconds, overhead_s FROM throughput WHERE model = ?"
                              " ORDER BY at DESC LIMIT ?", model, RECENT)  # fmt: skip
        measured = [_read(row) for row in rows]
        like = [one for one in measured if not one.only_bounds(work)]
        nearest = sorted(like if like else measured, key=lambda one: one.distance(work))[:NEAREST]
        return Times(tuple(one.seconds_for(work) for one in nearest), at_most=not like and bool(measured))


def _read(row: sqlite3.Row) -> Measurement:
    return Measurement(Price(row["frames"], row["pixels"]), row["seconds"], row["overhead_s"])
