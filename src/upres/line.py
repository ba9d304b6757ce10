"""The line of waiting tasks: each one's place, and how long until it is done. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from upres.catalog import Catalog
from upres.catalog.model import Model
from upres.queue.store import Price, TaskStore, Waiting
from upres.queue.workers import WorkerTable
from upres.tasks import Task

START_S = 5.0  # of a worker: torch on two cores that others use too; a quarter of it on an idle machine
LOAD_GB_PER_S = 1.0  # of weights, from a disk to a device


@dataclass(frozen=True, slots=True)
class Place:
    queue_position: int  # 1 = next or running
    estimated_wait_s: float  # until it is finished


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

    def __init__(self, store: TaskStore, workers: WorkerTable, catalog: Catalog, *, lanes: int, cores: int,
                 loaded: Callable[[], str | None]) -> None:  # fmt: skip
        self._store, self._workers, self._catalog = store, workers, catalog
        self._lanes, self._cores, self._loaded = lanes, cores, loaded

    def places(self, line: list[Waiting] | None = None) -> dict[str, Place]:
        """Of every unfinished task, by its id; of those in `line`, where the caller has read it already."""
        if line is None:
            line = self._store.line()
        places: dict[str, Place] = {}
        rates: dict[tuple[str, Price], float] = {}
        ahead_s = 0.0
        loaded = self._loaded() if line else None
        for position, waiting in enumerate(line, start=1):
            ahead_s += self._remaining_s(waiting, rates, loaded) / self._lanes
            loaded = waiting.model
            places[waiting.id] = Place(position, ahead_s)
        return places

    def _remaining_s(self, waiting: Waiting, rates: dict[tuple[str, Price], float], loaded: str | None) -> float:
        """From the task's own pace once it has one, else from what was measured of its model (asked for once)."""
        left = waiting.price.frames - waiting.progress.frames_done
        if waiting.progress.fps > 0:
            return left / waiting.progress.fps
        kind = (waiting.model, waiting.price)
        if kind not in rates:
            measured = self._workers.pixels_per_s(*kind)
            rates[kind] = (measured if measured is not None
                           else self._catalog.expected_pixels_per_s(waiting.model, self._cores))  # fmt: skip
        return start_of(self._catalog.known(waiting.model), loaded) + left * waiting.price.pixels / rates[kind]
