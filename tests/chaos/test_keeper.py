"""The keeper and real workers on real torch, with models that hang, kill their process, or fail as broken GPUs do."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from chaos import models
from chaos.arena import Arena, until
from support import make_video
from upres import catalog, doctor
from upres.engine import LocalEngine
from upres.surfaces.views import Gpu
from upres.tasks import Task, TaskSpec, TaskState

PATIENCE_S = 180.0


@pytest.fixture
def bad_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "MODELS", (*catalog.MODELS, *models.ENTRIES))


@pytest.fixture
def arena(tmp_path: Path, bad_models: None) -> Arena:
    make_video(tmp_path / "clip.mp4", frames=6, size="32x24", sound=False)
    return Arena.make(tmp_path, paper=False, UPRES_STALL_TIMEOUT="3", UPRES_MAX_ATTEMPTS="2", UPRES_QUARANTINE="600")


@pytest.fixture
def engine(arena: Arena) -> Iterator[LocalEngine]:
    with arena.engine() as engine:
        yield engine


def submitted(engine: LocalEngine, arena: Arena, model: str) -> Task:
    return engine.submit(TaskSpec(input_path=str(arena.folder / "clip.mp4"), resolution=32, batch_size=1,
                                  dit_model=model, color_correction="none"))  # fmt: skip


def ended(engine: LocalEngine, task: Task) -> tuple[str, str, int]:
    """State, what was wrong, attempts."""
    task = engine.wait(task.id, PATIENCE_S)
    return task.state, task.failure.message if task.failure is not None else "", task.attempt


def test_bad_models_cost_their_own_tasks_and_never_the_next_one(engine: LocalEngine, arena: Arena) -> None:
    """One hangs, one kills its worker, one breaks the device, one wants too much memory; good ones wait behind them."""
    bad = {name: submitted(engine, arena, name) for name in ("hang", "die", "memory")}
    good = submitted(engine, arena, "compact")
    state, message, attempts = ended(engine, bad["hang"])
    assert (state, attempts) == ("failed", 2) and "made no progress" in message
    state, message, attempts = ended(engine, bad["die"])
    assert (state, attempts) == ("failed", 2) and "died (signal 9)" in message and "started 2 times" in message
    state, message, attempts = ended(engine, bad["memory"])
    assert (state, attempts) == ("failed", 1) and "ran out of device memory" in message
    assert ended(engine, good)[0] == "completed"
    assert engine.gpu().quarantined_until is None  # one task's faults alone are the task's
    for task in bad.values():
        assert not (arena.settings.output_dir / task.id).exists() or not any(
            (arena.settings.output_dir / task.id).iterdir())  # fmt: skip


def test_a_device_that_fails_again_and_again_rests_and_says_so_everywhere(engine: LocalEngine, arena: Arena) -> None:
    first, second = submitted(engine, arena, "device"), submitted(engine, arena, "device")
    waiting = submitted(engine, arena, "compact")
    assert ended(engine, first) == ("failed", "the device failed while it ran this task, which was started 2 times", 2)
    assert ended(engine, second)[:1] == ("failed",) or engine.status(second.id).state is TaskState.QUEUED
    until(lambda: engine.gpu().quarantined_until is not None, "the device rests", PATIENCE_S)
    assert engine.status(waiting.id).state is TaskState.QUEUED
    gpu = Gpu.of(engine.gpu())
    assert gpu.quarantined and gpu.fault == "the device failed" and gpu.quarantined_until is not None
    found = [f for f in doctor.diagnose(arena.settings) if "rests" in f.found]
    assert found and "upres stop" in found[0].remedy
    engine.stop()  # ends the rest
    assert engine.gpu().quarantined_until is None
    assert ended(engine, waiting)[0] == "completed"


def test_a_worker_whose_keeper_is_killed_gives_its_task_back_and_both_start_anew(
    arena: Arena, engine: LocalEngine
) -> None:
    task = submitted(engine, arena, "hang")
    until(lambda: engine.status(task.id).progress.frames_done > 0, "the worker is in the middle", PATIENCE_S)
    row = engine.supervisor.alive(engine.supervisor.slots[0])
    assert row is not None
    worker = psutil.Process(row.pid)
    os.kill(row.keeper_pid, signal.SIGKILL)
    worker.suspend()  # it hangs for ever anyway; whether it sleeps or hangs, somebody must end it
    worker.kill()
    until(lambda: engine.supervisor.alive(engine.supervisor.slots[0]) is not None, "another worker", PATIENCE_S)
    assert engine.cancel(task.id).id == task.id
    assert ended(engine, task)[0] == "cancelled"
