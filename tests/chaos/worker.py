"""The worker of a chaos run: the real loop, store, locks and keeper, and a log of what it claims and publishes.

With CHAOS_BENCH=paper its bench copies bytes instead of restoring pixels and needs no torch, so that a thousand deaths
take minutes; without it the bench is the real one, with the misbehaving models of `chaos.models` in its catalogue.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from tests.chaos.oplog import OpLog
from upres.queue.store import Claim, Price, TaskStore
from upres.queue.throughput import Measurement
from upres.settings import Settings
from upres.tasks import Progress, Result
from upres.worker import loop
from upres.worker.loop import Bench, Finished
from upres.worker.process import main, torch_bench

STEPS, STEP_S = 5, 0.004
BLOCKS = 64
BROKEN_DEVICE = 1 << 40  # a seed, beyond those of a storm: the paper device breaks over it


def content(task_id: str) -> bytes:
    """What a paper result holds, whole."""
    return b"".join(hashlib.sha256(f"{task_id} {block}".encode()).digest() for block in range(BLOCKS))


class LoggedStore(TaskStore):
    def claim(self, slot: str) -> Claim | None:
        claim = super().claim(slot)
        if claim is not None:
            LOG.write("claim", id=claim.task.id, token=claim.token, slot=slot, attempt=claim.task.attempt)
        return claim

    def complete(self, claim: Claim, result: Result, publish: Callable[[], None]) -> None:
        def logged() -> None:
            publish()
            digest = hashlib.sha256(Path(result.output_path).read_bytes()).hexdigest()
            LOG.write("publish", id=claim.task.id, token=claim.token, sha=digest)

        super().complete(claim, result, logged)
        LOG.write("completed", id=claim.task.id, token=claim.token)


class PaperBench:
    name = "paper"
    model: str | None = None

    def __init__(self, settings: Settings, slot: str) -> None:
        self._settings = settings

    def load(self, model: str) -> None:
        """As long as the file `slow` lies beside the store."""
        while (self._settings.data_dir / "slow").exists():
            threading.Event().wait(STEP_S)
        self.model = model

    def restore(self, claim: Claim, report: Callable[[Progress], None]) -> Finished:
        task = claim.task
        if task.spec.seed == BROKEN_DEVICE:
            raise RuntimeError("the paper is torn")
        folder = self._settings.output_dir / task.id
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.iterdir():
            leftover.unlink()
        part, final = folder / f".{task.id}.{claim.token}.part", folder / f"{claim.token}.png"
        Path(task.spec.input_path).read_bytes()
        report(Progress(phase="restoring", frames_total=STEPS))
        try:
            with part.open("wb") as file:
                for step in range(STEPS):
                    report(Progress(phase="restoring", frames_done=step, frames_total=STEPS))
                    block = content(task.id)
                    file.write(block[len(block) * step // STEPS : len(block) * (step + 1) // STEPS])
                    file.flush()
                    threading.Event().wait(STEP_S)
                os.fsync(file.fileno())
            report(Progress(phase="finishing", frames_done=STEPS, frames_total=STEPS))
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        result = Result(output_path=str(final), width=1, height=1, frames=1, model="paper", device="paper",
                        process_time_s=0.0)  # fmt: skip
        return Finished(result, lambda: os.replace(part, final), lambda: part.unlink(missing_ok=True),
                        Measurement(Price(1, 1), 0.1))  # fmt: skip

    def drop(self) -> None:
        self.model = None

    def blame(self, error: Exception) -> Literal["memory", "device", "task"]:
        return "device" if isinstance(error, RuntimeError) else "task"


def bench(settings: Settings, slot: str) -> Bench:
    """Called once the slot's lock is held."""
    LOG.write("owner", slot=slot)
    if os.environ.get("CHAOS_BENCH") == "paper":
        return PaperBench(settings, slot)
    from tests.chaos import models

    models.install()
    return torch_bench(settings, slot)


if __name__ == "__main__":
    LOG = OpLog.of_this_run()
    loop.TaskStore = LoggedStore  # type: ignore[misc,attr-defined]
    sys.exit(main(bench=bench))
