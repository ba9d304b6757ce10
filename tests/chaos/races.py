"""Races without dice: many starters of one slot, idle exits against submits, and the store against a plain model."""

from __future__ import annotations

import multiprocessing
import random
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path

from tests.chaos.arena import SLOT, Arena, until
from tests.chaos.oplog import read
from upres.queue.database import Database
from upres.queue.exits import EX_DONE, EX_HELD
from upres.queue.store import TaskStore
from upres.tasks import TaskSpec, TaskState

STARTERS = 16
LANES = 4
PATIENCE_S = 60.0  # far more than a start takes on a busy machine; what is not done by then is lost


def starters(rounds: int) -> bool:
    """Starts 16 workers at once; prints in how many rounds two owned the slot at the same time."""
    twice, began = 0, time.monotonic()
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as name:
            twice += not one_owner(Path(name))
    print(f"starters: {rounds} rounds of {STARTERS} workers, {twice} with two owners, "
          f"{time.monotonic() - began:.0f} s", flush=True)  # fmt: skip
    return twice == 0


def one_owner(folder: Path, count: int = STARTERS) -> bool:
    """Whether of `count` workers one owned the slot and all others gave up while it did."""
    arena = Arena.make(folder)
    arena.settings.data_dir.mkdir(parents=True)
    workers = [arena.run("tests.chaos.worker", "--slot", SLOT) for _ in range(count)]
    until(lambda: sum(worker.poll() is not None for worker in workers) >= count - 1, "all but one gave up")
    owners = [event for event in read(folder / "operations.log") if event["op"] == "owner"]
    for worker in workers:
        worker.terminate()
        worker.wait()
    ends = sorted(worker.returncode for worker in workers)
    return len(owners) == 1 and ends == [EX_DONE] + [EX_HELD] * (count - 1)


def idle_exits(exits: int, lanes: int = LANES) -> bool:
    """Workers that leave as soon as nothing waits, each met on its way out by a submit: every task must run.

    Goes on until so many workers have come and gone, in `lanes` data directories at once.
    """
    began = time.monotonic()
    with ProcessPoolExecutor(lanes, multiprocessing.get_context("spawn")) as pool:  # an arena has the environment
        rounds = list(pool.map(_meet_leavers, [-(-exits // lanes)] * lanes, range(lanes)))
    submits, ran, left = (sum(column) for column in zip(*rounds, strict=True))
    print(f"idle: {left} workers left, {submits} submits met them, {ran} ran, "
          f"{time.monotonic() - began:.0f} s", flush=True)  # fmt: skip
    return ran == submits


def _meet_leavers(exits: int, seed: int) -> tuple[int, int, int]:
    """Submits, tasks that ran, workers that left. A submit falls at any moment from the last task's end to the end of
    its worker's process and of its keeper's."""
    dice, submits, ran = random.Random(seed), 0, 0
    with tempfile.TemporaryDirectory() as name:
        arena = Arena.make(Path(name), GPU_IDLE_TIMEOUT="0")
        order = TaskSpec(input_path=str(Path(name) / "input.png"), resolution=32)
        with arena.engine() as engine, closing(Database(arena.settings.data_dir / "upres.sqlite3")) as database:
            store = TaskStore(database)  # to look without helping: every verb of the engine would start a worker
            while (left := _owners(Path(name)) - 1) < exits:
                task = engine.submit(order)
                submits += 1
                patience = time.monotonic() + PATIENCE_S
                while not (state := store.get(task.id).state).finished and time.monotonic() < patience:
                    time.sleep(0.005)
                ran += state is TaskState.COMPLETED
                time.sleep(dice.choice((0, dice.uniform(0, 0.02), dice.uniform(0, 0.4))))
    return submits, ran, left


def _owners(folder: Path) -> int:
    log = folder / "operations.log"
    return sum(event["op"] == "owner" for event in read(log)) if log.exists() else 0


def model(steps: int) -> bool:
    """The store against a dictionary, by hypothesis."""
    from tests.chaos.store_model import run_steps

    done = run_steps(steps)
    print(f"model: {done} steps of the store agreed with the model")
    return True
