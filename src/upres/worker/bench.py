"""A torch device with one model on it: what the worker's loop drives. Knows nothing of the store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch

from upres.catalog import Catalog
from upres.models.attention import use
from upres.models.kernels.switch import use as use_kernels
from upres.queue.store import Claim
from upres.settings import Settings
from upres.tasks import Progress
from upres.worker.faults import is_device_fault, is_out_of_memory
from upres.worker.loop import Finished
from upres.worker.residency import Residency
from upres.worker.run import run_task
from upres.worker.sealed import sealed


class TorchBench:
    """A `loop.Bench` on the slot's GPU, or on the CPU where torch sees none."""

    def __init__(self, settings: Settings, slot: str) -> None:
        on_gpu = slot.startswith("gpu-") and torch.cuda.is_available()
        device = torch.device("cuda", 0) if on_gpu else torch.device("cpu")  # by number, for torch 2.11
        self.name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
        if settings.threads:
            torch.set_num_threads(settings.threads)
        use(settings.attention)
        self._settings = settings
        self._residency = Residency(Catalog(settings.model_dir), device, settings.vram_limit_mb)

    @property
    def model(self) -> str | None:
        return self._residency.name

    def load(self, model: str) -> None:
        if self._residency.device.type == "cuda":
            use_kernels(self._settings.kernels)
        self._residency.load(model)

    def restore(self, claim: Claim, report: Callable[[Progress], None]) -> Finished:
        restorer = self._residency.load(claim.task.model)
        with sealed(claim, self._settings) as safe:
            return run_task(safe, restorer, self._settings, self.name, report, self._residency.room_bytes)

    def drop(self) -> None:
        self._residency.drop()

    def blame(self, error: Exception) -> Literal["memory", "device", "task"]:
        if is_out_of_memory(error):
            return "memory"
        return "device" if is_device_fault(error) else "task"
