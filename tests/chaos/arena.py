"""A place for chaos: a data directory, its log of operations, and the environment every process of a run gets."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

import numpy as np
from PIL import Image

from tests.chaos.oplog import OpLog
from tests.chaos.worker import content
from upres.engine import LocalEngine
from upres.settings import Settings
from upres.tasks import Task

ROOT = Path(__file__).parents[2]
SLOT = "cpu"


@dataclass
class Arena:
    folder: Path
    environment: dict[str, str]
    log: OpLog
    paper: bool

    @classmethod
    def make(cls, folder: Path, *, paper: bool = True, **variables: str) -> Arena:
        """`variables` are further settings. A quarantine would end the chaos early: there is none."""
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "chaos" / "hooks"), str(ROOT / "src")])
        environment = {
            **os.environ, "PYTHONPATH": path, "CHAOS_LOG": str(folder / "operations.log"),
            "CHAOS_DEEDS": str(folder / "deeds"), "CHAOS_BENCH": "paper" if paper else "torch",
            "UPRES_DATA_DIR": str(folder / "data"), "NVIDIA_VISIBLE_DEVICES": "none", "UPRES_THREADS": "1",
            "UPRES_MAX_ATTEMPTS": "1000", "UPRES_MAX_QUEUED": "100000", "UPRES_QUARANTINE": "0",
            "UPRES_DISK_RESERVE": "0", "GPU_IDLE_TIMEOUT": "60", **variables,
        }  # fmt: skip
        pixels = np.random.default_rng(0).integers(0, 255, (16, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "input.png")
        return cls(folder, environment, OpLog(folder / "operations.log"), paper)

    @property
    def deeds(self) -> Path:
        return Path(self.environment["CHAOS_DEEDS"])

    @property
    def settings(self) -> Settings:
        return Settings.from_env(self.environment)

    @contextlib.contextmanager
    def engine(self) -> Iterator[LocalEngine]:
        """Its keepers and workers get the arena's environment."""
        before = dict(os.environ)
        os.environ.update(self.environment)
        engine = LocalEngine(self.settings, worker="tests.chaos.worker")
        try:
            yield engine
        finally:
            engine.stop()
            engine.close()
            os.environ.clear()
            os.environ.update(before)

    def run(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", "-m", module, *arguments]
        return subprocess.Popen(command, env=self.environment, cwd=self.folder, stdin=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)  # fmt: skip

    def submitter(self, first: int, last: int) -> subprocess.Popen[bytes]:
        return self.run("tests.chaos.submitter", str(first), str(last), str(self.folder / "input.png"))

    def write_down(self, tasks: list[tuple[str | None, Task]]) -> None:
        """What there is in the end: every task with its key, and every file that is no task's result."""
        results = set()
        for key, task in tasks:
            data = b""
            if task.result is not None and Path(task.result.output_path).is_file():
                results.add(Path(task.result.output_path))
                data = Path(task.result.output_path).read_bytes()
            whole = data == content(task.id) if self.paper else _is_picture(data, (40, 32))
            self.log.write("final", key=key, id=task.id, state=task.state, whole=whole,
                           sha=hashlib.sha256(data).hexdigest(), attempt=task.attempt,
                           code=task.failure.code if task.failure is not None else None)  # fmt: skip
        for path in self.settings.output_dir.rglob("*"):
            if path.is_file() and path not in results:
                self.log.write("stray", path=str(path))


def _is_picture(data: bytes, size: tuple[int, int]) -> bool:
    import io

    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            return image.size == size
    except OSError:
        return False


def kill(pid: int, signum: int = signal.SIGKILL) -> bool:
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        return False
    return True


def until(condition: Callable[[], bool], what: str, patience_s: float = 120.0) -> None:
    deadline = monotonic() + patience_s
    while not condition():
        assert monotonic() < deadline, f"waited in vain until {what}"
        sleep(0.01)
