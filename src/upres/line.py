"""The line of waiting tasks: each one's place, and how long until it is done. Changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from upres.catalog import Catalog
from upres.queue.store import Price, TaskStore, Waiting
from upres.queue.workers import WorkerTable
from upres.tasks import Task

START_S = 2.0  # of a worker and its model, roughly


@dataclass(frozen=True, slots=True)
class Place:
    queue_position: int  # 1 = next or running
    estimated_wait_s: float  # until it is finished


def placed(task: Task, place: Place | None) -> Task:
    if place is None:
        return task
    return task.model_copy(update={"queue_position": place.queue_position, "estimated_wait_s": place.estimated_wait_s})


class Line:
    """`lanes`: workers that serve it together."""

    def __init__(self, store: TaskStore, workers: WorkerTable, catalog: Catalog, *, lanes: int, on_gpu: bool) -> None:
        self._store, self._workers, self._catalog = store, workers, catalog
        self._lanes, self._on_gpu = lanes, on_gpu

    def places(self) -> dict[str, Place]:
        """Of every unfinished task, by its id."""
        places: dict[str, Place] = {}
        rates: dict[tuple[str, Price], float] = {}
        ahead_s = 0.0
        for position, waiting in enumerate(self._store.line(), start=1):
            ahead_s += self._remaining_s(waiting, rates) / self._lanes
            places[waiting.id] = Place(position, ahead_s)
        return places

    def _remaining_s(self, waiting: Waiting, rates: dict[tuple[str, Price], float]) -> float:
        """From the task's own pace once it has one, else from what was measured of its model (asked for once)."""
        left = waiting.price.frames - waiting.progress.frames_done
        if waiting.progress.fps > 0:
            return left / waiting.progress.fps
        kind = (waiting.model, waiting.price)
        if kind not in rates:
            measured = self._workers.pixels_per_s(*kind)
            rates[kind] = (measured if measured is not None
                           else self._catalog.expected_pixels_per_s(waiting.model, on_gpu=self._on_gpu))  # fmt: skip
        return START_S + left * waiting.price.pixels / rates[kind]
