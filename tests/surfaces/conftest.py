"""One real server for all tests that speak HTTP, on the store and the worker of the shared engine."""

import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.surfaces.serving import DOCUMENTED_PORT, UPLOAD_CAP_MB, Served, serving
from upres.engine import LocalEngine
from upres.settings import Settings


@pytest.fixture(scope="session")
def server(settings: Settings, engine: LocalEngine, worker_id: str) -> Iterator[Served]:
    """On the port the document names, if no one else holds it and no other process of this run may want it."""
    with socket.socket() as probe:
        free = worker_id in ("master", "gw0") and probe.connect_ex(("127.0.0.1", DOCUMENTED_PORT)) != 0
    with serving(settings, PORT=str(DOCUMENTED_PORT if free else 0), MAX_UPLOAD_SIZE=str(UPLOAD_CAP_MB),
                 UPRES_ALLOWED_HOSTS="box.example") as served:  # fmt: skip
        yield served


@pytest.fixture(scope="session")
def http(server: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


@pytest.fixture
def uploads(settings: Settings) -> Path:
    settings.upload_dir.mkdir(parents=True, exist_ok=True)
    return settings.upload_dir
