"""The committed recordings, and whether the tool that checks them can say no."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.parity import check_file

REPOSITORY = Path(__file__).parents[2]
GOLDEN = REPOSITORY / "tests" / "golden" / "seedvr2"
FILES = sorted(path.name for path in GOLDEN.iterdir() if path.suffix != ".md")


@pytest.mark.parametrize("name", FILES)
def test_every_committed_recording_holds(name: str) -> None:
    with torch.inference_mode():
        checks = check_file(GOLDEN / name)
    assert checks
    assert [check for check in checks if not check.holds] == []


def parity(folder: Path, *options: str) -> tuple[int, list[str]]:
    command = [sys.executable, "-m", "tests.parity", str(folder), *options]
    run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return run.returncode, run.stdout.splitlines()


def copy(folder: Path, name: str, *, add: float = 0.0, to: str = "") -> None:
    with safe_open(GOLDEN / f"{name}.safetensors", framework="pt") as file:
        metadata = file.metadata()
    given = load_file(GOLDEN / f"{name}.safetensors")
    if to:
        given[to].view(-1)[0] += add
    save_file(given, folder / f"{name}.safetensors", metadata=metadata)


def test_the_last_line_counts_and_the_exit_status_is_zero_only_if_all_hold(tmp_path: Path) -> None:
    copy(tmp_path, "temporal_blend")
    status, lines = parity(tmp_path)
    assert (status, lines[-1]) == (0, "1 of 1 files hold, 0 do not")
    assert lines[0].startswith("ok   temporal_blend.safetensors: ")

    copy(tmp_path, "temporal_blend", to="ov3.out", add=1e-5)
    (tmp_path / "resize_table.json").write_text((GOLDEN / "resize_table.json").read_text().replace("1440", "1441", 1))
    (tmp_path / "other.json").write_text("{}")
    copy(tmp_path, "vae_tiny_T1")  # without the weights it names
    save_file({"a": torch.zeros(1)}, tmp_path / "stranger.safetensors")
    status, lines = parity(tmp_path)
    assert (status, lines[-1]) == (1, "0 of 5 files hold, 5 do not")
    assert all(line.startswith("FAIL ") for line in lines[:-1])
    assert "needs vae_tiny_weights.safetensors beside it" in lines[-2]


def test_in_another_type_the_networks_alone_are_held_to_a_tolerance_of_that_type(tmp_path: Path) -> None:
    for name in ("vae_tiny_weights", "dit_3b_tiny_weights", "temporal_blend"):
        (tmp_path / f"{name}.safetensors").symlink_to(GOLDEN / f"{name}.safetensors")
    copy(tmp_path, "dit_3b_tiny_small_detail")
    copy(tmp_path, "vae_tiny_T1")
    status, lines = parity(tmp_path, "--dtype", "bfloat16")
    assert (status, lines[-1]) == (0, "2 of 2 files hold, 0 do not")
    assert all(float(line.split("error ")[1].split(",")[0]) > 1e-3 for line in lines[:-1]), "it was the other type"
    copy(tmp_path, "vae_tiny_T1", to="out.decoded", add=100)
    assert parity(tmp_path, "--dtype", "bfloat16")[0] == 1


@pytest.mark.parametrize(
    ("name", "tensor"),
    [("pipeline_vid_overlap", "out.final"), ("dit_3b_tiny_small_detail", "out.vid_sample"),
     ("vae_tiny_T5", "out.decoded"), ("gguf_dequant", "Q4_K.dequant_fp32"), ("transform_pixels", "out1"),
     ("rope_head128", "out7b.vid_k")],
)  # fmt: skip
@pytest.mark.parametrize("error", [3e-4, float("nan")])
def test_a_single_wrong_value_is_noticed(tmp_path: Path, name: str, tensor: str, error: float) -> None:
    for weights in GOLDEN.glob("*_weights.safetensors"):
        (tmp_path / weights.name).symlink_to(weights)
    copy(tmp_path, name, to=tensor, add=error)
    with torch.inference_mode():
        assert not all(check.holds for check in check_file(tmp_path / f"{name}.safetensors"))
