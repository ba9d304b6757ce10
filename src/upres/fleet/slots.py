"""The places where a worker can run: one a GPU, or the CPU where there is none. Knows nothing of tasks or of torch."""

from __future__ import annotations

import os
from dataclasses import dataclass

import pynvml

from upres.errors import InvalidSetting

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Slot:
    """`uuid` is NVML's, empty for the CPU."""

    uuid: str
    device_name: str

    @property
    def name(self) -> str:
        return f"gpu-{self.uuid}" if self.uuid else "cpu"

    @property
    def device(self) -> str:
        return f"cuda:{self.uuid}" if self.uuid else "cpu"


@dataclass(frozen=True, slots=True)
class GpuMemory:
    used_mb: int
    total_mb: int


def find_slots(visible: str) -> tuple[Slot, ...]:
    """`visible` as in NVIDIA_VISIBLE_DEVICES: indexes or UUIDs, `all`, or `none`. Raises InvalidSetting."""
    gpus = _gpus() if visible.lower() not in ("none", "void", "") else ()
    if not gpus:
        return (Slot("", "CPU"),)
    if visible.lower() == "all":
        return gpus
    return tuple(_chosen(gpus, word.strip()) for word in visible.split(","))


def gpu_memory(slot: Slot) -> GpuMemory:
    """Zeros for the CPU and where the driver does not answer."""
    if not slot.uuid:
        return GpuMemory(0, 0)
    try:
        pynvml.nvmlInit()
        memory = pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByUUID(slot.uuid))
    except pynvml.NVMLError:
        return GpuMemory(0, 0)
    return GpuMemory(memory.used // MIB, memory.total // MIB)


def cpu_cores(threads: int) -> int:
    """That a worker uses on a CPU; `threads` is how many it may, 0 for all it is given."""
    if threads:
        return threads
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    counted = os.cpu_count()
    return counted if counted is not None else 1


def _gpus() -> tuple[Slot, ...]:
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        return tuple(Slot(pynvml.nvmlDeviceGetUUID(h), pynvml.nvmlDeviceGetName(h)) for h in handles)
    except pynvml.NVMLError:
        return ()


def _chosen(gpus: tuple[Slot, ...], word: str) -> Slot:
    if word.isdecimal() and int(word) < len(gpus):
        return gpus[int(word)]
    for gpu in gpus:
        if word and gpu.uuid.startswith(word):
            return gpu
    raise InvalidSetting(
        f"NVIDIA_VISIBLE_DEVICES names {word!r}, this machine has {len(gpus)} GPU(s)",
        remedy=f"use 0…{len(gpus) - 1}, a UUID, all, or none for the CPU",
    )
