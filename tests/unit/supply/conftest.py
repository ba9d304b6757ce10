from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from types import SimpleNamespace

import pytest

from upres.models import files
from upres.supply import child


@pytest.fixture
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are looked into here, for tests that show what follows from it: each process would first import torch."""

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        said = io.StringIO()
        with monkeypatch.context() as here, contextlib.redirect_stdout(said):
            here.setattr(sys, "argv", command[command.index(child.MODULE) :])
            status = files.main()
        return subprocess.CompletedProcess(command, status, said.getvalue(), "")

    monkeypatch.setattr(child, "subprocess", SimpleNamespace(run=run, DEVNULL=subprocess.DEVNULL))
