"""Kills submitters and workers at random and then counts: was an acknowledged task lost, doubled or torn?

    python -m tests.chaos --tasks 60 --kills 20 --seed 7

Submitters write each acknowledged task to a log of their own; the verdict comes from those logs, the store and the
output files. Exit status 0 only if every count that must be 0 is 0.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from upres.engine import LocalEngine
from upres.settings import Settings
from upres.tasks import Task, TaskSpec, TaskState

SUBMITTERS = 4
TIMEOUT_S = 1800.0


@dataclass(frozen=True)
class Verdict:
    lost: int  # acknowledged, and not in the store
    doubled: int  # tasks beyond one a key
    unfinished: int
    torn: int  # outputs that are missing or not the whole picture
    leftovers: int  # files in the output folders that are no output

    @property
    def clean(self) -> bool:
        return (self.lost, self.doubled, self.unfinished, self.torn, self.leftovers) == (0, 0, 0, 0, 0)


def main() -> int:
    parser = argparse.ArgumentParser(description="kill submitters and workers, lose nothing")
    parser.add_argument("--tasks", type=int, default=60)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--submit", nargs=2, metavar=("FIRST", "LAST"), type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.submit:
        submit(Path.cwd(), *options.submit)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        return run(Path(folder), options.tasks, options.kills, random.Random(options.seed))


def submit(folder: Path, first: int, last: int) -> None:
    """Submits tasks first…last-1, each under its own key, and logs what was acknowledged."""
    engine = LocalEngine(Settings.from_env(os.environ))
    with (folder / f"acknowledged-{first}.log").open("a", buffering=1) as log:
        for number in range(first, last):
            spec = TaskSpec(input_path=str(folder / "input.png"), resolution=128, seed=number)
            print(engine.submit(spec, key=f"key-{number}").id, file=log)


def run(folder: Path, tasks: int, kills: int, dice: random.Random) -> int:
    pixels = np.random.default_rng(0).integers(0, 255, (64, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "input.png")
    environment = {
        **os.environ, "UPRES_DATA_DIR": str(folder / "data"), "NVIDIA_VISIBLE_DEVICES": "none",
        "UPRES_MAX_ATTEMPTS": str(kills + 1), "UPRES_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]),
    }  # fmt: skip
    engine = LocalEngine(Settings.from_env(environment))
    bounds = [round(i * tasks / SUBMITTERS) for i in range(SUBMITTERS + 1)]
    submitters = {i: start(folder, environment, bounds[i], bounds[i + 1]) for i in range(SUBMITTERS)}
    killed, began = Counter[str](), time.monotonic()
    while len(ended(engine, tasks)) < tasks or any(process.poll() is None for process in submitters.values()):
        if time.monotonic() - began > TIMEOUT_S:
            break
        engine.queue()
        if killed.total() < kills and dice.random() < 0.3:
            killed[kill_one(engine, submitters, dice)] += 1
        for i, process in submitters.items():
            if process.poll() not in (None, 0):
                submitters[i] = start(folder, environment, bounds[i], bounds[i + 1])
        time.sleep(dice.uniform(0.05, 0.4))
    verdict = judge(folder, engine, tasks)
    attempts = Counter(task.attempt for task in ended(engine, tasks))
    engine.stop()
    engine.close()
    print(f"{tasks} tasks, killed {dict(killed)}, attempts {dict(sorted(attempts.items()))}, "
          f"{time.monotonic() - began:.0f} s\n{verdict}")  # fmt: skip
    return 0 if verdict.clean else 1


def start(folder: Path, environment: dict[str, str], first: int, last: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.chaos", "--submit", str(first), str(last)]
    return subprocess.Popen(command, cwd=folder, env=environment)


def ended(engine: LocalEngine, tasks: int) -> list[Task]:
    return engine.history(10 * tasks)


def kill_one(engine: LocalEngine, submitters: dict[int, subprocess.Popen[bytes]], dice: random.Random) -> str:
    victims = [process.pid for process in submitters.values() if process.poll() is None]
    worker = engine.gpu().worker_pid
    if worker is not None and (not victims or dice.random() < 0.5):
        return "worker" if kill(worker) else "nobody"
    return "submitter" if victims and kill(dice.choice(victims)) else "nobody"


def kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def judge(folder: Path, engine: LocalEngine, tasks: int) -> Verdict:
    done = {task.id: task for task in ended(engine, tasks)}
    acknowledged = {line for log in folder.glob("acknowledged-*.log") for line in log.read_text().split()}
    outputs = [Path(task.result.output_path) for task in done.values() if task.result is not None]
    return Verdict(
        lost=len(acknowledged - done.keys()), doubled=max(0, len(done) - tasks),
        unfinished=tasks - sum(task.state is TaskState.COMPLETED for task in done.values()),
        torn=sum(not whole(path) for path in outputs),
        leftovers=sum(path.is_file() for path in engine.settings.output_dir.rglob("*")) - len(outputs),
    )  # fmt: skip


def whole(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            image.load()
            return image.size == (160, 128)
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main())
