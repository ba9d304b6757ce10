"""The embedding of the one prompt that SeedVR2 was distilled with. Knows nothing of how it was computed."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from upres.errors import WeightsInvalid
from upres.models.seedvr2.checkpoint import TEXT_KEY, Kind, expect
from upres.models.weights.containers import open_weights


def load_text(path: Path, text_dim: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """length text_dim: 58 x 5120 as published. Raises WeightsInvalid, FileMissing."""
    file = open_weights(path)
    expect(file, Kind.TEXT)
    held = dict(file.tensors())[TEXT_KEY]
    if not isinstance(held, Tensor) or held.shape[-1] != text_dim:
        raise WeightsInvalid(f"{path.name}: the embedding is {tuple(file.shapes[TEXT_KEY])}, its transformer takes "
                             f"rows of {text_dim}", remedy="give the embedding of the same model")  # fmt: skip
    return held.to(device, dtype)
