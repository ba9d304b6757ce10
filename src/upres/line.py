"""The line of waiting tasks at one moment: each one's place, and how long until it is done. Changes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

from upres.catalog import Catalog
from upres.catalog.model import Model
from upres.queue.store import Overview, Price, TaskStore, Waiting
from upres.queue.throughput import Throughput
from upres.shared import SharedLook
from upres.tasks import Task

START_S = 5.0  # of a worker: torch on two cores that others use too; a quarter of it on an idle machine
LOAD_GB_PER_S = 1.0  # of weights, from a disk to a device
RECENT_TASKS = 20
ESTIMATED_ANEW_S = 0.25  # what was measured of models and which one is loaded, for estimates alone


@dataclass(frozen=True, slots=True)
class Place:
    queue_position: int  # 1 = next or running
    estimated_wait_s: float  # until it is finished


@dataclass(frozen=True, slots=True)
class Glance:
    """The queue at one moment, and the place of every unfinished task by its id."""

    queue: Overview
    places: Mapping[str, Place]

    def longest_wait_s(self) -> float:
        return max((place.estimated_wait_s for place in self.places.values()), default=0.0)


def placed(task: Task, place: Place | None) -> Task:
    if place is None:
        return task
    return task.model_copy(update={"queue_position": place.queue_position, "estimated_wait_s": place.estimated_wait_s})


def start_of(model: Model, loaded: str | None) -> float:
    """Seconds until the first frame can be worked on; `loaded`: the model that is on the device by then."""
    return 0.0 if loaded == model.name else START_S + gigabytes(model.size) / LOAD_GB_PER_S


@cache
def gigabytes(size: str) -> float:
    """Of a size as the catalogue writes it: `16GB`, `0.3MB`."""
    return float(size[:-2]) / (1000 if size.endswith("MB") else 1)


class Line:
    """`lanes`: workers that serve it together; `cores`: of a CPU, 0 where GPUs do; `loaded`: the first one's model."""

    def __init__(self, store: TaskStore, throughput: Throughput, catalog: Catalog, *, lanes: int, cores: int,
                 loaded: Callable[[], str | None]) -> None:  # fmt: skip
        self._store, self._throughput, self._catalog = store, throughput, catalog
        self._lanes, self._cores, self._loaded = lanes, cores, loaded
        self._likely_s: dict[tuple[str, Price], float] = {}
        self._resident: str | None = None
        self._estimated_at = float("-inf")
        self.look = SharedLook(self._glance)

    def _glance(self) -> Glance:
        queue = self._store.overview(RECENT_TASKS)
        if queue.line and time.monotonic() - self._estimated_at > ESTIMATED_ANEW_S:
            self._likely_s, self._resident, self._estimated_at = {}, self._loaded(), time.monotonic()
        return Glance(queue, self._places(queue.line))

    def _places(self, line: list[Waiting]) -> dict[str, Place]:
        places: dict[str, Place] = {}
        ahead_s, loaded = 0.0, self._resident
        for position, waiting in enumerate(line, start=1):
            ahead_s += self._remaining_s(waiting, loaded) / self._lanes
            loaded = waiting.model
            places[waiting.id] = Place(position, ahead_s)
        return places

    def _remaining_s(self, waiting: Waiting, loaded: str | None) -> float:
        """From the task's own pace once it has one, else from what was measured of its model (asked for once)."""
        left = waiting.price.frames - waiting.progress.frames_done
        if waiting.progress.fps > 0:
            return left / waiting.progress.fps
        kind = (waiting.model, Price(max(1, left), waiting.price.pixels))
        if kind not in self._likely_s:
            guess_s = left * waiting.price.pixels / self._catalog.expected_pixels_per_s(waiting.model, self._cores)
            self._likely_s[kind] = self._throughput.times(*kind).likely_s(guess_s)
        return start_of(self._catalog.known(waiting.model), loaded) + self._likely_s[kind]
