"""The committed recordings of FlashVSR, and whether the tool that checks them can say no."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.parity import check_file
from tests.parity.recording import NotUnderstood

GOLDEN = Path(__file__).parents[1] / "golden" / "flashvsr"
FILES = sorted(path.name for path in GOLDEN.iterdir() if path.suffix != ".md")


@pytest.mark.parametrize("name", FILES)
def test_every_committed_recording_holds(name: str) -> None:
    with torch.inference_mode():
        checks = check_file(GOLDEN / name)
    assert checks
    assert [check for check in checks if not check.holds] == []


@pytest.mark.parametrize(
    ("name", "tensor", "error"),
    [("pipeline_a_output", "latents", 1e-3), ("pipeline_a_output", "step1.mask2", 1),
     ("pipeline_a_output", "raw_sel", 1e-3), ("pipeline_a_output", "out_sel", 1e-2),
     ("lq_proj_stream", "v10.stream.layer0", 1e-2),
     ("lq_proj_stream", "v11.stream.layer0", float("nan")), ("topk_masks", "syn5.mask", 1), ("topk_masks", "table", 1),
     ("noise_cpu", "app.step2.bf16", 0.1)],
)  # fmt: skip
def test_a_single_wrong_value_is_noticed(tmp_path: Path, name: str, tensor: str, error: float) -> None:
    for beside in GOLDEN.glob("*.safetensors"):
        shutil.copyfile(beside, tmp_path / beside.name)
    path = tmp_path / f"{name}.safetensors"
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    given = load_file(path)
    first = given[tensor].view(-1)[:1]
    first.copy_(1 - first if tensor.endswith("mask") or "mask" in tensor.split(".")[-1] else first + error)
    save_file(given, path, metadata=metadata)
    with torch.inference_mode():
        assert not all(check.holds for check in check_file(path))


def test_a_clip_without_its_weights_beside_it_is_not_taken_for_held(tmp_path: Path) -> None:
    shutil.copyfile(GOLDEN / "pipeline_a_output.safetensors", tmp_path / "pipeline_a_output.safetensors")
    with pytest.raises(NotUnderstood, match=r"needs \w+\. in it or in a file beside it"):
        check_file(tmp_path / "pipeline_a_output.safetensors")
