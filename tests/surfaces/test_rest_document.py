"""The document's own test suite and client, to the letter, against a real server."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import make_video
from tests.surfaces.serving import DOCUMENTED_PORT, Served
from upres.engine import Engine
from upres.tasks import TaskState

DOCUMENT = Path(__file__).with_name("document")
DOCUMENTED_URL = f"http://localhost:{DOCUMENTED_PORT}"
PATIENCE_S = 120


def run(script: str, interpreter: str, server: Served, folder: Path) -> str:
    """In `folder`; the URL is another than the document's only where its port was taken."""
    text = DOCUMENT.joinpath(script).read_text("utf-8")
    folder.joinpath(script).write_text(text.replace(DOCUMENTED_URL, f"http://localhost:{server.port}"), "utf-8")
    env = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run([interpreter, script], cwd=folder, env=env, capture_output=True, text=True, encoding="utf-8",
                          timeout=PATIENCE_S)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.skipif(shutil.which("curl") is None or shutil.which("jq") is None, reason="the suite needs curl and jq")
def test_the_documents_shell_suite_passes(server: Served, small_image: Path, tmp_path: Path) -> None:
    shutil.copy(small_image, tmp_path / "test.png")
    said = run("rest_suite.sh", "bash", server, tmp_path)
    assert '"status": "healthy"' in said
    assert '"status": "queued"' in said
    assert '"status": "completed"' in said
    assert "HTTP/1.1 200 OK" in said
    assert said.endswith("=== 所有测试完成 ===\n")


def test_the_documents_python_client_gets_its_video(server: Served, engine: Engine, tmp_path: Path) -> None:
    make_video(tmp_path / "input.mp4", frames=2, size="32x24")
    said = run("rest_client.txt", sys.executable, server, tmp_path)
    assert "'status': 'healthy'" in said
    (last,) = engine.history(1)
    assert (Path(last.spec.input_path).name, last.state) == ("input.mp4", TaskState.COMPLETED)
