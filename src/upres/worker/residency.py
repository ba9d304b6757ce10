"""What is on the device: at most one model. Knows nothing of tasks or queues."""

from __future__ import annotations

import gc

import torch

from upres.catalog import COMPACT, Catalog, download_command
from upres.errors import WeightsInvalid
from upres.models.restorer import Restorer


class Residency:
    def __init__(self, catalog: Catalog, device: torch.device) -> None:
        self.device = device
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
