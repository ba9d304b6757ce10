"""What is on the device, and how much may be: at most one model. Knows nothing of tasks or queues."""

from __future__ import annotations

import gc

import psutil
import torch

from upres.catalog import COMPACT, Catalog, download_command
from upres.errors import WeightsInvalid
from upres.models.restorer import Restorer
from upres.restore.memory import MB, room_bytes


class Residency:
    def __init__(self, catalog: Catalog, device: torch.device, limit_mb: int = 0) -> None:
        """limit_mb: of the device's memory, 0 for all of it. A GPU's allocator is held to it."""
        self.device = device
        self.room_bytes = _room_bytes(device, limit_mb)
        self.name: str | None = None
        self._catalog = catalog
        self._restorer: Restorer | None = None

    def load(self, name: str) -> Restorer:
        """The model, resident; whatever else was resident is dropped first. Raises ModelNotFound, WeightsInvalid."""
        if self._restorer is not None and self.name == name:
            return self._restorer
        self.drop()
        model = self._catalog.find(name)
        paths = self._catalog.paths(model)
        try:
            restorer: Restorer = model.load_factory()(paths, self.device)
        except WeightsInvalid as error:
            if name == COMPACT.name:
                raise
            raise WeightsInvalid(error.message, remedy=f"{download_command(name)}: {error.remedy}") from error
        self._restorer, self.name = restorer, name
        return restorer

    def drop(self) -> None:
        self._restorer = self.name = None
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def _room_bytes(device: torch.device, limit_mb: int) -> int:
    if device.type != "cuda":
        return room_bytes(psutil.virtual_memory().total, limit_mb, on_gpu=False)
    total = torch.cuda.get_device_properties(device).total_memory
    if 0 < limit_mb * MB < total:
        torch.cuda.set_per_process_memory_fraction(limit_mb * MB / total, device)
    return room_bytes(total, limit_mb, on_gpu=True)
