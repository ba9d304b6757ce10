"""Each kind of clip is made once a run, on first use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.media.clips import KINDS
from upres.media.readers import NURSERY


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in made:
            made[kind] = KINDS[kind].make(tmp_path_factory.mktemp("clip"))
        return made[kind]

    return get


@pytest.fixture(autouse=True)
def no_process_is_left_behind():
    before = {child.pid for child in psutil.Process().children()}
    yield
    left = [child for child in psutil.Process().children() if child.pid not in before and not _is_kept(child)]
    assert not left, f"left behind: {left}"


def _is_kept(child: psutil.Process) -> bool:
    """The nursery is, for the next file."""
    try:
        return str(NURSERY) in child.cmdline()
    except psutil.ZombieProcess:
        return False
