"""Every endpoint's JSON against the examples of the public document: the same fields, of the same kinds."""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from tests.surfaces.long_task import running_long_task
from tests.surfaces.serving import PATIENCE_S
from upres.engine import Engine
from upres.tasks import TaskState

EXAMPLES: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_name("document").joinpath("rest_examples.json").read_text("utf-8")
)
MORE_PARAMS = {f"params.{name}" for name in ("vae_tiling", "vae_quality")}
MODEL_FACTS = ("name", "size", "vram")
ADDITIONS: dict[str, set[str]] = {  # what Upres says beyond the document
    "GET /api/gpu/status": {"device", "worker_pid", "quarantined", "quarantined_until", "fault"},
    "GET /api/models": {"models[].best_for", "not_installed", "not_installed[].best_for", "not_installed[].install",
                        "not_installed[].models", *(f"not_installed[].models[].{name}" for name in MODEL_FACTS)},
    "GET /api/queue/status": {"processing.input_filename", "pending_tasks[].input_filename"},
    "GET /api/queue/history": {"history[].input_filename", "history[].output_path", "history[].preview"},
    "POST /api/process": {"model"},
    "GET /api/status/{task_id} processing": {
        "kind", "model", "input_filename", "estimated_wait_seconds", "phase", "frames_done", "frames_total", "fps",
        "params.preset", *MORE_PARAMS},
    "GET /api/status/{task_id} completed": {
        "kind", "model", "input_filename", "frames", "output_bytes", "device", "warnings", "params", *MORE_PARAMS,
        *(f"params.{name}" for name in (
            "resolution", "batch_size", "dit_model", "color_correction", "seed"))},
}  # fmt: skip


@pytest.fixture(scope="module")
def replies(
    http: httpx.Client, engine: Engine, small_image: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Any]]:
    """One reply of every endpoint, in every state the document shows."""
    said: dict[str, httpx.Response] = {}
    image = {"file": ("a.png", small_image.read_bytes())}

    def ask(case: str, task_id: str = "", **options: Any) -> dict[str, Any]:
        method, path = case.split(" ")[:2]
        said[case] = http.request(method, path.replace("{task_id}", task_id), **options)
        reply: dict[str, Any] = said[case].json()
        return reply

    done = ask("POST /api/process", files=image, data={"resolution": "72"})["task_id"]
    engine.wait(done, PATIENCE_S)
    ask("GET /api/status/{task_id} completed", done)
    model = ask("GET /api/models")["default"]
    ask("POST /api/models/switch", json={"model": model})
    ask("GET /api/gpu/status")
    ask("GET /api/queue/history")
    with running_long_task(engine, tmp_path_factory.mktemp("long")) as running:
        task = engine.status(running)
        while task.state is not TaskState.PROCESSING:
            task = engine.wait(running, PATIENCE_S, seen=task)
        waiting = http.post("/api/process", files=image).json()["task_id"]
        ask("GET /api/status/{task_id} processing", running)
        ask("GET /api/queue/status")
        ask("GET /api/queue/position/{task_id} queued", waiting)
        ask("GET /api/queue/position/{task_id} processing", running)
        ask("GET /health")
        http.post(f"/api/cancel/{waiting}")
    ask("POST /api/gpu/offload")
    assert {case: reply.status_code for case, reply in said.items()} == dict.fromkeys(EXAMPLES, 200)
    yield {case: reply.json() for case, reply in said.items()}


def fields(value: Any, prefix: str = "") -> dict[str, Any]:
    """Every field's path and value; of a list, its first item's."""
    if isinstance(value, list):
        return fields(value[0], prefix)
    found: dict[str, Any] = {}
    for name, item in value.items():
        found[prefix + name] = item
        if isinstance(item, dict) and name != "desc":
            found |= fields(item, f"{prefix}{name}.")
        elif isinstance(item, list) and item and isinstance(item[0], dict):
            found |= fields(item, f"{prefix}{name}[].")
    return found


@pytest.mark.parametrize("case", EXAMPLES)
def test_a_reply_has_the_documented_fields_and_the_declared_additions(case: str, replies: dict[str, Any]) -> None:
    assert set(fields(replies[case])) == set(fields(EXAMPLES[case])) | ADDITIONS.get(case, set())


@pytest.mark.parametrize("case", EXAMPLES)
def test_a_documented_field_has_the_documented_kind(case: str, replies: dict[str, Any]) -> None:
    given = fields(replies[case])
    for name, example in fields(EXAMPLES[case]).items():
        if given[name] is not None and example is not None:
            assert type(given[name]) is type(example), name


def test_the_examples_values_that_are_fixed_are_ours_too(replies: dict[str, Any]) -> None:
    for case, name in [("GET /health", "status"), ("GET /health", "queue_enabled"), ("POST /api/gpu/offload", "status"),
                       ("POST /api/models/switch", "status"), ("GET /api/status/{task_id} completed", "progress"),
                       ("POST /api/process", "status")]:  # fmt: skip
        assert replies[case][name] == EXAMPLES[case][name]


def test_times_are_written_as_documented(replies: dict[str, Any]) -> None:
    completed, health = replies["GET /api/status/{task_id} completed"], replies["GET /health"]
    for name in ("created_at", "started_at", "completed_at"):
        datetime.strptime(completed[name], "%Y-%m-%dT%H:%M:%S")
    datetime.strptime(health["timestamp"], "%Y-%m-%dT%H:%M:%S.%f")


def test_the_queue_counts_running_and_waiting_tasks_alike(replies: dict[str, Any]) -> None:
    queue, queued = replies["GET /api/queue/status"], replies["GET /api/queue/position/{task_id} queued"]
    assert queue["queue_length"] == replies["GET /health"]["queue_length"] == 2
    waiting = {"task_id": queued["task_id"], "position": queued["position"], "input_filename": "a.png"}
    assert queue["pending_tasks"] == [waiting]
    assert queued["position"] == 2
    assert replies["GET /api/queue/position/{task_id} processing"]["position"] == 0


@pytest.mark.parametrize("case", EXAMPLES)
def test_a_reply_fits_the_schema_that_openapi_declares(case: str, replies: dict[str, Any], http: httpx.Client) -> None:
    api = http.get("/openapi.json").json()
    method, path = case.split(" ")[:2]
    declared = api["paths"][path][method.lower()]["responses"]["200"]["content"]["application/json"]["schema"]
    Draft202012Validator({**declared, "components": api["components"]}).validate(replies[case])


def test_the_default_page_of_history_is_twenty_tasks(http: httpx.Client) -> None:
    api = http.get("/openapi.json").json()
    (limit,) = api["paths"]["/api/queue/history"]["get"]["parameters"]
    assert (limit["name"], limit["schema"]["default"]) == ("limit", 20)
    assert len(http.get("/api/queue/history", params={"limit": 1}).json()["history"]) == 1


def test_the_form_has_the_documented_parameters_and_defaults(http: httpx.Client) -> None:
    api = http.get("/openapi.json").json()
    form = api["paths"]["/api/process"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["required"] == ["file"]
    documented = {name: field.get("default") for name, field in form["properties"].items()
                  if not field.get("description", "").startswith("addition")}  # fmt: skip
    assert documented == {"file": None, "resolution": 1080, "batch_size": 5, "dit_model": "default",
                          "color_correction": "lab", "seed": 42}  # fmt: skip
