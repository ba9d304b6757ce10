"""Races without dice: many starters of one slot, idle exits against submits, and the store against a plain model."""

from __future__ import annotations

import random
import tempfile
import threading
import time
from pathlib import Path

from chaos.arena import SLOT, Arena, until
from chaos.oplog import read
from upres.queue.exits import EX_DONE, EX_HELD
from upres.tasks import TaskSpec, TaskState

STARTERS = 16
CALLERS = 8


def starters(rounds: int) -> bool:
    """Starts 16 workers at once; prints in how many rounds two owned the slot at the same time."""
    twice, began = 0, time.monotonic()
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as name:
            twice += not one_owner(Path(name))
    print(f"starters: {rounds} rounds of {STARTERS} workers, {twice} with two owners, {time.monotonic() - began:.0f} s")
    return twice == 0


def one_owner(folder: Path, count: int = STARTERS) -> bool:
    """Whether of `count` workers one owned the slot and all others gave up while it did."""
    arena = Arena.make(folder)
    arena.settings.data_dir.mkdir(parents=True)
    workers = [arena.run("chaos.worker", "--slot", SLOT) for _ in range(count)]
    until(lambda: sum(worker.poll() is not None for worker in workers) >= count - 1, "all but one gave up")
    owners = [event for event in read(folder / "operations.log") if event["op"] == "owner"]
    for worker in workers:
        worker.terminate()
        worker.wait()
    ends = sorted(worker.returncode for worker in workers)
    return len(owners) == 1 and ends == [EX_DONE] + [EX_HELD] * (count - 1)


def idle_exits(submits: int, callers: int = CALLERS) -> bool:
    """Workers that leave at once when idle, submits at moments that meet them on their way out: all tasks run."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        arena = Arena.make(Path(name), GPU_IDLE_TIMEOUT="0.05")
        ids: list[str] = []
        with arena.engine() as engine:

            def call(number: int) -> None:
                dice = random.Random(number)
                for _ in range(submits // callers):
                    task = engine.submit(TaskSpec(input_path=str(Path(name) / "input.png"), resolution=32))
                    ids.append(task.id)
                    if dice.random() < 0.5:
                        engine.wait(task.id, 120)
                        time.sleep(dice.uniform(0, 0.12))

            threads = [threading.Thread(target=call, args=(number,)) for number in range(callers)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            states = [engine.wait(task_id, 120).state for task_id in ids]
        owners = sum(event["op"] == "owner" for event in read(Path(name) / "operations.log"))
    ran = states.count(TaskState.COMPLETED)
    print(f"idle: {len(ids)} submits, {ran} ran, by {owners} workers, {time.monotonic() - began:.0f} s")
    return ran == len(ids)


def model(steps: int) -> bool:
    """The store against a dictionary, by hypothesis."""
    from chaos.store_model import run_steps

    done = run_steps(steps)
    print(f"model: {done} steps of the store agreed with the model")
    return True
