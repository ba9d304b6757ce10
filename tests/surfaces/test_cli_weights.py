"""`upres download` and `upres import` as a user runs them: real processes, a real server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub import Hub, open_hub
from tests.seedvr2_tiny import write_dit
from tests.support import make_settings

MODEL = "seedvr2_ema_7b-Q8_0.gguf"  # nobody has published its checksum: a server may give anything for it
PATH = f"/cmeka/SeedVR2-GGUF/resolve/main/{MODEL}"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with open_hub() as hub:
        hub.files[PATH] = b"weights" * 1000
        hub.files["/numz/SeedVR2_comfyUI/resolve/main/ema_vae_fp16.safetensors"] = b"not the published file"
        yield hub


def upres(data_dir: Path, *arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **make_settings(data_dir).to_env(), **variables}
    return subprocess.run([sys.executable, "-m", "upres.surfaces.cli", *map(str, arguments)], env=environment,
                          capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)  # fmt: skip


def test_download_prints_each_file_and_stops_at_the_first_that_is_not_the_published_one(
    hub: Hub, tmp_path: Path
) -> None:
    run = upres(tmp_path, "download", MODEL, HF_ENDPOINT=hub.url)
    assert run.returncode == 1
    assert run.stdout.startswith(f"{tmp_path / 'models' / MODEL} fetched, sha256 ")
    assert run.stderr.startswith("upres: download_failed: http://") and "ema_vae_fp16" in run.stderr
    assert "was promised; ask another mirror: HF_ENDPOINT names it" in run.stderr
    assert (tmp_path / "models" / MODEL).read_bytes() == hub.files[PATH]


def test_download_goes_through_the_proxy_of_the_environment(hub: Hub, tmp_path: Path) -> None:
    run = upres(tmp_path, "download", MODEL, HF_ENDPOINT="http://hub.invalid", http_proxy=hub.url)
    assert (tmp_path / "models" / MODEL).read_bytes() == hub.files[PATH], run.stderr


def test_download_without_a_name_lists_every_name_in_full(tmp_path: Path) -> None:
    run = upres(tmp_path, "download", COLUMNS="60")
    assert run.returncode == 0
    assert len(run.stdout.splitlines()) == 18
    for name in (MODEL, "seedvr2_ema_7b_sharp_fp8_e4m3fn.safetensors", "flashvsr-v1.1-tiny-long"):
        assert f" {name}\n" in run.stdout


def test_download_of_an_unknown_model_says_what_there_is(tmp_path: Path) -> None:
    run = upres(tmp_path, "download", "nothing")
    assert run.returncode == 1
    assert "no model 'nothing'; can be downloaded: seedvr2_ema_3b_fp16.safetensors" in run.stderr


def test_import_prints_the_new_path_and_what_is_still_needed(tmp_path: Path) -> None:
    source = write_dit(tmp_path / "some_fp16.safetensors", "3b")
    run = upres(tmp_path, "import", source)
    name = "seedvr2_ema_3b_fp16.safetensors"
    assert (run.returncode, run.stdout) == (0, f"{tmp_path / 'models' / name} linked\n"), run.stderr
    assert f"run `upres download {name}`" in run.stderr

    doctor = upres(tmp_path, "doctor")
    assert f"!! model    {name} lacks ema_vae_fp16.safetensors" in doctor.stdout
    assert "17 more can be had" in doctor.stdout


def test_import_of_no_weights_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n")
    run = upres(tmp_path, "import", tmp_path / "picture.png")
    assert run.returncode == 1
    assert "weights_invalid: picture.png: neither safetensors nor GGUF" in run.stderr
