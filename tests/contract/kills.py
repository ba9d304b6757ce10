"""Kills the worker of a long clip at random moments; the result's frames must be those of a run nobody disturbed.

    python -m tests.contract.kills [--kills 10] [--frames 240] [--seed 1]

Prints one line a kill: how far the task was, and at which frame the next worker went on. Exit status 0 if all is equal.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import psutil

from upres.engine import LocalEngine
from upres.media.decode import FrameReader
from upres.media.probe import probe
from upres.settings import Settings
from upres.tasks import TaskSpec, TaskState

from .making import clip

SEGMENT = 8
PATIENCE_S = 600


def main() -> int:
    parser = argparse.ArgumentParser(description="kill -9 the worker, compare the frames")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--frames", type=int, default=240)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return run(Path(folder), options.kills, options.frames, random.Random(options.seed))


def run(folder: Path, kills: int, frames: int, dice: random.Random) -> int:
    source = clip("in.mp4", "-frames:v", str(frames), seconds=frames / 24 + 1, sound=True)(folder)
    settings = Settings.from_env({
        "UPRES_DATA_DIR": str(folder / "data"), "NVIDIA_VISIBLE_DEVICES": "none", "UPRES_THREADS": "1",
        "UPRES_MAX_ATTEMPTS": str(kills + 1), "UPRES_SEGMENT_FRAMES": str(SEGMENT), "UPRES_DISK_RESERVE": "0",
    })  # fmt: skip
    engine = LocalEngine(settings)
    try:
        spec = TaskSpec(input_path=str(source), resolution=128)
        undisturbed = engine.wait(engine.submit(spec).id, PATIENCE_S)
        task, moments = engine.submit(spec), sorted(dice.randrange(1, frames) for _ in range(kills))
        for moment in moments:
            kill_at(engine, task.id, moment)
        done = engine.wait(task.id, PATIENCE_S)
        results = [digests(Path(each.result.output_path)) if each.result is not None else []
                   for each in (undisturbed, done)]  # fmt: skip
        leftovers = [path.name for path in settings.work_dir.glob("*")]
    finally:
        engine.stop()
        engine.close()
    equal = len(results[0]) == frames and results[0] == results[1] and done.state is TaskState.COMPLETED
    verdict = "equal, frame by frame" if equal else "NOT EQUAL"
    print(f"{kills} kills, attempt {done.attempt}, {len(results[1])} of {frames} frames, {verdict}, "
          f"left behind: {leftovers}")  # fmt: skip
    return 0 if equal and not leftovers else 1


def kill_at(engine: LocalEngine, task_id: str, moment: int) -> None:
    """Once the task has come so far; the moment after a restart may be earlier than the one before."""
    began, task = time.monotonic(), engine.status(task_id)
    while not task.state.finished and time.monotonic() - began < PATIENCE_S:
        pid = engine.gpu().worker_pid
        if task.state is TaskState.PROCESSING and task.progress.frames_done >= moment and pid is not None:
            worker = psutil.Process(pid)
            children = worker.children(recursive=True)
            os.kill(pid, signal.SIGKILL)
            _, alive = psutil.wait_procs([worker, *children], timeout=10)
            print(f"  killed at frame {task.progress.frames_done}, attempt {task.attempt}, ffmpegs left: {len(alive)}")
            return
        task = engine.wait(task_id, PATIENCE_S, seen=task)


def digests(path: Path) -> list[str]:
    with FrameReader(probe(path)) as reader:
        return [hashlib.sha256(frame.tobytes()).hexdigest() for block in reader for frame in block]


if __name__ == "__main__":
    sys.exit(main())
