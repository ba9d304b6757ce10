"""SeedVR2's recorded reference tensors, the committed choice or the complete set, and the tiny models they are of."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from upres.models.kernels.heads import turned
from upres.models.seedvr2.config import SEEDVR2_3B, SEEDVR2_7B
from upres.models.seedvr2.dit import Dit
from upres.models.seedvr2.rope import Rope
from upres.models.seedvr2.windows import Layout

REPOSITORY = Path(__file__).parents[1]
FOLDERS = (REPOSITORY / "tests" / "golden" / "seedvr2", REPOSITORY.parent / "shared" / "golden" / "seedvr2")
TINY = {
    "3b": replace(SEEDVR2_3B, dim=64, heads=2, head_dim=32, layers=6, text_dim=40, shared_from=3),
    "7b": replace(SEEDVR2_7B, dim=64, heads=2, head_dim=32, layers=4, text_dim=40, shared_from=4),
}


def recorded(name: str) -> Path:
    for folder in FOLDERS:
        if (folder / name).exists():
            return folder / name
    pytest.skip(f"{name} is not part of the committed choice")


def tensors(name: str) -> dict[str, Tensor]:
    return load_file(recorded(f"{name}.safetensors"))


def table(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(recorded(f"{name}.json").read_text())["rows"]
    return rows


def tiny_dit(size: str) -> Dit:
    dit = Dit(TINY[size])
    dit.load_state_dict(tensors(f"dit_{size}_tiny_weights"))
    return dit.eval()


def run_dit(dit: Dit, case: dict[str, Tensor]) -> Tensor:
    frames, height, width = case["in.vid_shape"][0].tolist()
    latent = case["in.vid"].view(frames, height, width, 33)
    return dit(latent, case["in.txt"], case["in.timestep"].item()).reshape(-1, 16)


def video_angles(rope: Rope, layout: Layout) -> Tensor:
    """tokens, pairs."""
    return rope.angles(layout)[layout.places[layout.video_rows, 1:].long()].flatten(1)


def text_angles(rope: Rope, layout: Layout) -> Tensor:
    """Of the first window's copy: text length, pairs."""
    return rope.angles(layout)[layout.places[layout.text_rows[0], 1:].long()].flatten(1)


def turned_by(heads: Tensor, angles: Tensor) -> Tensor:
    return turned(heads.clone(), torch.polar(torch.ones_like(angles), angles)[:, None])
