"""Fixtures every suite shares: a data directory, the real engine on it, and tiny real media.

`settings` and `engine` live as long as the test run, so that one worker serves most tests; `fresh_settings` and
`fresh_engine` are a store of their own for tests that count, kill or restart.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support import make_settings, make_video
from upres.engine import LocalEngine
from upres.settings import Settings


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
