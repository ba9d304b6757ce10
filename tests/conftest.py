"""Fixtures every suite shares: a data directory, the real engine on it, and tiny real media.

`settings` and `engine` live as long as the test run, so that one worker serves most tests; `fresh_settings` and
`fresh_engine` are a store of their own for tests that count, kill or restart.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from upres.engine import LocalEngine
from upres.settings import Settings


def make_settings(data_dir: Path, **variables: str) -> Settings:
    """CPU only and one thread, whatever the machine has."""
    return Settings.from_env({"UPRES_DATA_DIR": str(data_dir), "NVIDIA_VISIBLE_DEVICES": "none", "UPRES_THREADS": "1",
                              "GPU_IDLE_TIMEOUT": "120", "UPRES_DISK_RESERVE": "0", **variables})  # fmt: skip


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return make_settings(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def engine(settings: Settings) -> Iterator[LocalEngine]:
    yield from _engine(settings)


@pytest.fixture
def fresh_settings(tmp_path: Path) -> Settings:
    return make_settings(tmp_path / "data")


@pytest.fixture
def fresh_engine(fresh_settings: Settings) -> Iterator[LocalEngine]:
    yield from _engine(fresh_settings)


def _engine(settings: Settings) -> Iterator[LocalEngine]:
    engine = LocalEngine(settings)
    yield engine
    engine.stop()
    engine.close()


def ffmpeg(*arguments: str | Path) -> None:
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-y", *map(str, arguments)],
                   check=True, stdin=subprocess.DEVNULL)  # fmt: skip


def make_video(path: Path, *, frames: int = 9, size: str = "64x48", rate: str = "24000/1001", sound: bool = True) -> Path:
    inputs = ["-f", "lavfi", "-i", f"testsrc2=s={size}:r={rate}"]
    if sound:
        inputs += ["-f", "lavfi", "-i", "sine=440"]
    ffmpeg(*inputs, "-frames:v", str(frames), "-shortest", "-pix_fmt", "yuv420p", path)
    return path


@pytest.fixture(scope="session")
def small_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64x48, 9 frames at 24000/1001, with sound."""
    return make_video(tmp_path_factory.mktemp("media") / "small.mp4")


@pytest.fixture(scope="session")
def small_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48x36 RGB PNG."""
    path = tmp_path_factory.mktemp("media") / "small.png"
    rows, columns = np.mgrid[0:36, 0:48]
    pixels = np.stack([rows * 7 % 256, columns * 5 % 256, (rows * columns) % 256], axis=-1).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return path
