from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.arena import Arena
from upres.engine import LocalEngine


@pytest.fixture
def arena(tmp_path: Path) -> Arena:
    return Arena.make(tmp_path)


@pytest.fixture
def engine(arena: Arena) -> Iterator[LocalEngine]:
    with arena.engine() as engine:
        yield engine
