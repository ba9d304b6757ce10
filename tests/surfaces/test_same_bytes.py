"""One order through every surface: with the same seed the same bytes come out, by SeedVR2's whole way."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.seedvr2_tiny import write_set
from tests.support import make_settings, make_video
from tests.surfaces.serving import serving
from tests.surfaces.stdio_process import Host, start
from upres.engine import LocalEngine
from upres.settings import Settings

MODEL = "seedvr2_ema_3b_fp8_e4m3fn.safetensors"
ORDER = {"resolution": 32, "batch_size": 5, "dit_model": MODEL, "color_correction": "lab"}
PATIENCE_S = 120


@pytest.fixture(scope="module")
def seedvr2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    settings = make_settings(tmp_path_factory.mktemp("same"), UPRES_WAIT_CAP=str(PATIENCE_S))
    write_set(settings.model_dir, MODEL)
    yield settings
    engine = LocalEngine(settings)
    engine.stop()
    engine.close()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Longer than a window, with sound."""
    return make_video(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=7, size="24x16")


def by_mcp(settings: Settings, clip: Path, folder: Path, seed: int) -> bytes:
    with start(settings) as process:
        host = Host(process)
        task = host.ask("submit_video_task", file_path=str(clip), seed=seed, **ORDER)
        done = host.ask("wait_for_task", task_id=task["task_id"], timeout=PATIENCE_S)
        assert done["status"] == "completed", done
        process.communicate(timeout=PATIENCE_S)
    return Path(done["output_path"]).read_bytes()


def by_rest(settings: Settings, clip: Path, folder: Path, seed: int) -> bytes:
    with serving(settings) as served, httpx.Client(base_url=served.url, timeout=PATIENCE_S) as client:
        with clip.open("rb") as file:
            task = client.post("/api/process", files={"file": file}, data={**ORDER, "seed": seed}).json()
        engine = LocalEngine(settings)
        engine.wait(task["task_id"], PATIENCE_S)
        engine.close()
        return client.get(f"/api/download/{task['task_id']}").raise_for_status().content


def by_shell(settings: Settings, clip: Path, folder: Path, seed: int) -> bytes:
    output = folder / "out.mp4"
    arguments = ["--resolution", ORDER["resolution"], "--batch-size", 5, "--model", MODEL, "--color-correction", "lab",
                 "--seed", seed]  # fmt: skip
    command = [sys.executable, "-m", "upres.surfaces.cli", "upscale", clip, "-o", output, *arguments]
    run = subprocess.run([*map(str, command)], env={**os.environ, **settings.to_env()}, capture_output=True, text=True,
                         stdin=subprocess.DEVNULL)  # fmt: skip
    assert run.returncode == 0, run.stderr
    return output.read_bytes()


def test_the_same_order_gives_the_same_bytes_through_mcp_rest_and_the_shell(
    seedvr2: Settings, clip: Path, tmp_path: Path
) -> None:
    made = [hashlib.sha256(way(seedvr2, clip, tmp_path, 7)).hexdigest() for way in (by_mcp, by_rest, by_shell)]
    assert len(set(made)) == 1
    assert hashlib.sha256(by_mcp(seedvr2, clip, tmp_path, 8)).hexdigest() != made[0], "another seed"
