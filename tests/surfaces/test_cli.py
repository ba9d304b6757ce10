"""The command line as a user runs it: real processes, exit statuses, stdout and stderr apart."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from upres.engine import LocalEngine
from upres.media.probe import probe
from upres.settings import Settings
from upres.tasks import TaskState


@pytest.fixture(scope="module")
def environment(settings: Settings, engine: LocalEngine) -> dict[str, str]:
    return {**os.environ, **settings.to_env()}


def upres(environment: dict[str, str], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "upres.surfaces.cli", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def test_upscale_writes_the_file_asked_for_and_prints_its_path(
    environment: dict[str, str], small_video: Path, tmp_path: Path
) -> None:
    output = tmp_path / "big.mp4"
    run = upres(environment, "upscale", small_video, "-o", output, "--resolution", "96")
    assert (run.returncode, run.stdout) == (0, f"{output}\n"), run.stderr
    assert (probe(output).width, probe(output).frames) == (128, 9)


def test_upscale_does_not_replace_a_file_unless_told_to(
    environment: dict[str, str], small_image: Path, tmp_path: Path
) -> None:
    output = tmp_path / "big.png"
    output.write_bytes(b"precious")
    refused = upres(environment, "upscale", small_image, "-o", output, "--resolution", "72")
    assert refused.returncode == 2 and "exists" in refused.stderr and output.read_bytes() == b"precious"
    allowed = upres(environment, "upscale", small_image, "-o", output, "--resolution", "72", "--overwrite", "--json")
    assert allowed.returncode == 0 and output.read_bytes() != b"precious"
    assert json.loads(allowed.stdout)["output_resolution"] == "96x72"


@pytest.mark.parametrize(("arguments", "status", "said"), [
    (["upscale", "nowhere.mp4"], 1, "file_not_found: "),
    (["upscale", "SMALL", "--batch-size", "6"], 2, "use 5 or 9"),
    (["upscale", "SMALL", "--model", "nonesuch"], 1, "model_not_found: "),
    (["upscale", "SMALL", "-o", "/nowhere/x.png"], 1, "create it first"),
    (["upscale", "SMALL", "-o", "x.mp4"], 2, "use x.png"),
    (["tasks", "show", "nonesuch"], 1, "task_not_found: "),
    (["tasks", "show"], 1, "which task?"),
])  # fmt: skip
def test_a_mistake_is_told_on_stderr_in_one_line_with_its_remedy(
    environment: dict[str, str], small_image: Path, arguments: list[str], status: int, said: str
) -> None:
    run = upres(environment, *(str(small_image) if word == "SMALL" else word for word in arguments))
    assert run.returncode == status and run.stdout == ""
    assert said in run.stderr and run.stderr.count("\n") == 1 and "Traceback" not in run.stderr


def test_a_detached_task_is_listed_shown_and_finished(
    environment: dict[str, str], engine: LocalEngine, small_image: Path
) -> None:
    task_id = upres(environment, "upscale", small_image, "--resolution", "72", "--detach").stdout.strip()
    assert engine.wait(task_id, 120).state is TaskState.COMPLETED
    assert json.loads(upres(environment, "tasks", "show", task_id).stdout)["status"] == "completed"
    assert task_id in upres(environment, "tasks").stdout


def test_a_removed_task_is_gone_with_its_result(
    environment: dict[str, str], engine: LocalEngine, small_image: Path
) -> None:
    task_id = upres(environment, "upscale", small_image, "--resolution", "72", "--detach").stdout.strip()
    engine.wait(task_id, 120)
    output = engine.output(task_id)
    removed = upres(environment, "tasks", "rm", task_id)
    assert (removed.returncode, json.loads(removed.stdout)["output_path"]) == (0, str(output))
    assert not output.parent.exists() and small_image.is_file()
    again = upres(environment, "tasks", "rm", task_id)
    assert again.returncode == 1 and f"task_not_found: no task '{task_id}'" in again.stderr


def test_models_and_doctor_report_the_embedded_model(environment: dict[str, str]) -> None:
    models = upres(environment, "models").stdout.splitlines()
    assert any("compact" in row and row.endswith("needs no download ") for row in models), "a row is one line"
    doctor = upres(environment, "doctor")
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    assert "ok model    compact installed" in doctor.stdout


def test_doctor_names_what_is_wrong_and_the_remedy(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "upres.sqlite3").write_bytes(b"no database" * 200)
    doctor = upres({**environment, "UPRES_DATA_DIR": str(tmp_path)}, "doctor")
    assert doctor.returncode == 1
    assert "!! store" in doctor.stdout and "move" in doctor.stdout


def test_stop_says_when_there_is_nothing_to_stop(environment: dict[str, str], tmp_path: Path) -> None:
    run = upres({**environment, "UPRES_DATA_DIR": str(tmp_path)}, "stop")
    assert (run.returncode, run.stdout) == (0, "no worker was running\n")
