"""The JSON shapes of the documented SeedVR2 API, shared by MCP and REST. Knows nothing of transports.

Field names and types are those of the public document; fields beyond it are additions and marked so.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from pydantic import BaseModel

from upres.tasks import GpuStatus, ModelList, QueueStatus, Result, Task, TaskState


def iso(epoch_s: float) -> str:
    """UTC without an offset, to the second, as the document writes it."""
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def zoned(epoch_s: float) -> str:
    """The same moment with its offset: for answers whose form no document fixes."""
    return f"{iso(epoch_s)}+00:00"


Clock = Callable[[float], str]


def _at(epoch_s: float | None, clock: Clock) -> str | None:
    return clock(epoch_s) if epoch_s is not None else None


def _seconds(value: float | None) -> int | None:
    return round(value) if value is not None else None


def _position(task: Task) -> int:
    """0 once it is finished."""
    return task.queue_position if task.queue_position is not None else 0


def _wait_s(task: Task) -> int:
    """Until it is finished."""
    return round(task.estimated_wait_s) if task.estimated_wait_s is not None else 0


class Submitted(BaseModel):
    status: str
    task_id: str
    queue_position: int
    estimated_wait_seconds: int
    model: str  # addition: the model that will run

    @classmethod
    def of(cls, task: Task) -> Submitted:
        return cls(status=task.state, task_id=task.id, queue_position=_position(task),
                   estimated_wait_seconds=_wait_s(task), model=task.model)  # fmt: skip


FURTHER_PARAMS = ("scale", "preprocess_width", "preserve_aspect_ratio", "sparse_ratio", "local_range", "kv_ratio",
                  "preview")  # fmt: skip
SHOWN_PARAMS = {*FURTHER_PARAMS, "preset", "frame_rate"}


class Params(BaseModel):
    """The additions are left out where they have their defaults. Of a task ordered by `scale`, `resolution` is what
    came of it.
    """

    resolution: int
    batch_size: int
    dit_model: str
    color_correction: str
    seed: int
    vae_tiling: str
    vae_quality: str
    scale: float | None = None  # addition, as all that follow
    preprocess_width: int | None = None
    preserve_aspect_ratio: bool | None = None
    sparse_ratio: float | None = None
    local_range: int | None = None
    kv_ratio: float | None = None
    preview: bool | None = None
    preset: str | None = None  # of a video's encoder, as decided at submit
    frame_rate: float | None = None  # of a folder of images


class TaskStatus(BaseModel):
    """`GET /api/status/{id}` and `get_task_status`. Fields that do not apply to the state are left out of the JSON."""

    id: str
    status: str
    progress: int
    kind: str  # addition
    model: str  # addition
    input_filename: str = ""  # addition
    params: Params
    created_at: str
    queue_position: int | None = None
    estimated_wait_seconds: int | None = None  # addition
    started_at: str | None = None
    completed_at: str | None = None
    phase: str | None = None  # addition
    frames_done: int | None = None  # addition
    frames_total: int | None = None  # addition
    fps: float | None = None  # addition
    process_time: int | None = None
    output_path: str | None = None
    output_filename: str | None = None
    output_resolution: str | None = None
    frames: int | None = None  # addition
    frame_rate: float | None = None  # addition: of the result; `fps` is how fast frames are restored
    duration_seconds: float | None = None  # addition
    audio: list[str] | None = None  # addition: codecs of the result's sound tracks
    output_bytes: int | None = None  # addition
    device: str | None = None  # addition
    warnings: list[str] | None = None  # addition
    error: str | None = None
    error_code: str | None = None  # addition

    @classmethod
    def of(cls, task: Task, clock: Clock = iso) -> Self:
        view = cls(
            id=task.id, status=task.state, progress=task.percent, kind=task.kind, model=task.model,
            input_filename=task.spec.input_filename, params=_params(task), created_at=clock(task.created_at),
            started_at=_at(task.started_at, clock), completed_at=_at(task.completed_at, clock),
            queue_position=task.queue_position,
            estimated_wait_seconds=_seconds(task.estimated_wait_s),
        )  # fmt: skip
        if task.state is TaskState.PROCESSING:
            now = task.progress
            view.phase, view.frames_done, view.frames_total, view.fps = (
                now.phase, now.frames_done, now.frames_total, round(now.fps, 3),
            )  # fmt: skip
        if task.result is not None:
            view._show(task.result)
        if task.failure is not None:
            view.error = " — ".join(part for part in (task.failure.message, task.failure.remedy) if part)
            view.error_code = task.failure.code
        return view

    def _show(self, result: Result) -> None:
        self.model, self.device = result.model, result.device
        self.process_time = _seconds(result.process_time_s)
        self.output_path, self.output_filename = result.output_path, result.output_filename
        self.output_resolution, self.frames = result.output_resolution, result.frames
        self.warnings = list(result.warnings)
        if result.size_bytes:
            self.output_bytes = result.size_bytes
        if result.fps:
            self.frame_rate, self.duration_seconds = result.fps, round(result.duration_s, 3)
            self.audio = list(result.audio)


def _params(task: Task) -> Params:
    spec, resolution = task.spec, task.spec.resolution
    if spec.scale is not None and task.facts is not None:
        resolution = min(task.facts.output_width, task.facts.output_height)
    given = spec.model_dump(include=SHOWN_PARAMS, exclude_defaults=True)
    return Params(resolution=resolution, batch_size=spec.batch_size, dit_model=spec.dit_model or task.model,
                  color_correction=spec.color_correction, seed=spec.seed, vae_tiling=spec.vae_tiling,
                  vae_quality=spec.vae_quality, **given)  # fmt: skip


class Position(BaseModel):
    """0 while it runs or once it is finished."""

    task_id: str
    status: str
    position: int
    estimated_wait: int

    @classmethod
    def of(cls, task: Task) -> Position:
        if task.state is not TaskState.QUEUED:
            return cls(task_id=task.id, status=task.state, position=0, estimated_wait=0)
        return cls(task_id=task.id, status=task.state, position=_position(task),
                   estimated_wait=_wait_s(task))  # fmt: skip


class Running(BaseModel):
    task_id: str
    progress: int
    model: str
    input_filename: str = ""  # addition


class Pending(BaseModel):
    task_id: str
    position: int
    input_filename: str = ""  # addition


class Queue(BaseModel):
    queue_length: int
    processing: Running | None
    processing_progress: int
    pending_tasks: list[Pending]
    total_completed: int
    total_failed: int
    avg_process_time: int
    estimated_total_wait: int

    @classmethod
    def of(cls, queue: QueueStatus) -> Queue:
        first = queue.processing[0] if queue.processing else None
        return cls(
            queue_length=len(queue.processing) + len(queue.pending),
            processing=Running(task_id=first.id, progress=first.percent, model=first.model,
                               input_filename=first.spec.input_filename) if first else None,
            processing_progress=first.percent if first else 0,
            pending_tasks=[Pending(task_id=task.id, position=_position(task), input_filename=task.spec.input_filename)
                           for task in queue.pending],
            total_completed=queue.total_completed, total_failed=queue.total_failed,
            avg_process_time=round(queue.avg_process_time_s),
            estimated_total_wait=round(queue.estimated_total_wait_s),
        )  # fmt: skip


class HistoryItem(BaseModel):
    id: str
    status: str
    created_at: str | None
    completed_at: str | None
    process_time: int | None
    output_filename: str | None
    output_resolution: str | None
    output_path: str | None = None  # addition: where its file is, if it is on this machine
    input_filename: str = ""  # addition
    preview: bool = False  # addition: a look at a piece of a file, not the file

    @classmethod
    def of(cls, task: Task, clock: Clock = iso) -> HistoryItem:
        result = task.result
        return cls(
            id=task.id, status=task.state, created_at=clock(task.created_at),
            completed_at=_at(task.completed_at, clock),
            process_time=_seconds(result.process_time_s) if result else None,
            output_filename=result.output_filename if result else None,
            output_resolution=result.output_resolution if result else None,
            output_path=result.output_path if result and Path(result.output_path).is_file() else None,
            input_filename=task.spec.input_filename, preview=task.spec.preview,
        )  # fmt: skip


class History(BaseModel):
    history: list[HistoryItem]

    @classmethod
    def of(cls, tasks: list[Task], clock: Clock = iso) -> History:
        return cls(history=[HistoryItem.of(task, clock) for task in tasks])


class Gpu(BaseModel):
    cuda_available: bool
    gpu_name: str | None
    vram_used_mb: int
    vram_total_mb: int
    model_loaded: bool
    current_model: str | None
    loading: bool
    loading_model: str | None
    processing: bool
    current_task: str | None
    device: str  # addition
    worker_pid: int | None  # addition
    quarantined: bool  # addition: the device failed repeatedly and rests
    quarantined_until: str | None  # addition
    fault: str | None  # addition: its last one, while it rests

    @classmethod
    def of(cls, gpu: GpuStatus) -> Gpu:
        return cls(
            cuda_available=gpu.cuda_available, gpu_name=gpu.gpu_name, vram_used_mb=gpu.vram_used_mb,
            vram_total_mb=gpu.vram_total_mb, model_loaded=gpu.current_model is not None,
            current_model=gpu.current_model, loading=gpu.loading_model is not None, loading_model=gpu.loading_model,
            processing=gpu.current_task is not None, current_task=gpu.current_task,
            device=gpu.device, worker_pid=gpu.worker_pid, quarantined=gpu.quarantined_until is not None,
            quarantined_until=_at(gpu.quarantined_until, zoned), fault=gpu.fault,
        )  # fmt: skip


class ModelView(BaseModel):
    name: str
    params: str
    precision: str
    size: str
    vram: str
    variant: str
    desc: dict[str, str]
    best_for: str = ""  # addition


class AbsentModel(BaseModel):
    name: str
    size: str  # to download
    vram: str


class Absent(BaseModel):
    """Models of one architecture that are known and not installed."""

    best_for: str
    models: list[AbsentModel]
    install: str


class Models(BaseModel):
    models: list[ModelView]
    default: str
    current: str | None
    loading: bool
    loading_model: str | None
    not_installed: list[Absent] = []  # addition

    @classmethod
    def of(cls, listing: ModelList) -> Models:
        shown = [ModelView.model_validate(info.model_dump(include=set(ModelView.model_fields)))
                 for info in listing.models]  # fmt: skip
        by_use: dict[str, list[AbsentModel]] = {}
        for info in listing.absent:
            model = AbsentModel(name=info.name, size=info.size, vram=info.vram)
            by_use.setdefault(info.best_for, []).append(model)
        absent = [Absent(best_for=use, models=models, install="upres download NAME, on the machine that runs Upres")
                  for use, models in by_use.items()]  # fmt: skip
        return cls(models=shown, default=listing.default, current=listing.current,
                   loading=listing.loading_model is not None, loading_model=listing.loading_model,
                   not_installed=absent)  # fmt: skip


class Outcome(BaseModel):
    """`{"status": "success", "message": …}`: the reply of verbs that only succeed or raise."""

    status: str
    message: str


class Switched(BaseModel):
    status: str
    model: str
