"""The keeper and real workers on real torch, with models that hang, kill their process, or fail as broken GPUs do."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.chaos import models
from tests.chaos.arena import Arena, until
from tests.chaos.worker import BROKEN_DEVICE
from tests.support import make_video
from upres import catalog, doctor
from upres.engine import LocalEngine
from upres.surfaces.views import Gpu
from upres.tasks import Task, TaskSpec, TaskState
from upres.worker.faults import is_device_fault, is_out_of_memory

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
    """One hangs, one kills its worker, one wants too much memory; a good one waits behind them."""
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


def test_a_device_that_fails_again_and_again_rests_and_says_so_everywhere(tmp_path: Path) -> None:
    arena = Arena.make(tmp_path, UPRES_MAX_ATTEMPTS="2", UPRES_QUARANTINE="600")
    with arena.engine() as engine:
        orders = [TaskSpec(input_path=str(tmp_path / "input.png"), resolution=32, seed=seed)
                  for seed in (BROKEN_DEVICE, BROKEN_DEVICE, 1)]  # fmt: skip
        first, second, waiting = map(engine.submit, orders)
        state, message, attempts = ended(engine, first)
        assert (state, attempts) == ("failed", 2) and message.startswith("the device failed while it ran this task")
        until(lambda: engine.gpu().quarantined_until is not None, "the device rests")
        assert {engine.status(task.id).state for task in (second, waiting)} == {TaskState.QUEUED}
        gpu = Gpu.of(engine.gpu())
        assert gpu.quarantined and gpu.fault == "the device failed" and gpu.quarantined_until is not None
        (found,) = [finding for finding in doctor.diagnose(arena.settings) if "rests" in finding.found]
        assert "upres stop" in found.remedy
        engine.cancel(second.id)
        engine.stop()  # ends the rest
        assert engine.gpu().quarantined_until is None
        assert ended(engine, waiting)[0] == "completed"


def test_a_worker_whose_keeper_is_killed_ends_by_itself_and_both_start_anew(tmp_path: Path) -> None:
    arena = Arena.make(tmp_path)
    with arena.engine() as engine:
        order = TaskSpec(input_path=str(tmp_path / "input.png"), resolution=32)
        assert ended(engine, engine.submit(order))[0] == "completed"
        row = engine.supervisor.alive(engine.supervisor.slots[0])
        assert row is not None
        os.kill(row.keeper_pid, signal.SIGKILL)
        until(lambda: engine.supervisor.alive(engine.supervisor.slots[0]) is None, "the worker ended")
        assert ended(engine, engine.submit(order))[0] == "completed"


@pytest.mark.parametrize(
    ("error", "blamed"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "memory"),
        (torch.AcceleratorError("CUDA error: out of memory"), "memory"),
        (RuntimeError("cuBLAS: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), "memory"),
        (torch.AcceleratorError("CUDA error: device-side assert triggered"), "device"),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), "device"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "device"),
        (RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"), "task"),
        (ValueError("CUDA error in a file's name"), "task"),
    ],
)
def test_who_is_to_blame_for_an_error(error: Exception, blamed: str) -> None:
    """As torch words them; not raised by a GPU here."""
    wrapped = ValueError("while restoring")
    wrapped.__cause__ = error
    for one in (error, wrapped):
        assert (is_out_of_memory(one), is_device_fault(one)) == (blamed == "memory", blamed == "device")
