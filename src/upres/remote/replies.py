"""What the documented REST API answers, read into tasks; additions of Upres may be absent. Knows nothing of HTTP."""

from __future__ import annotations

import mimetypes
from datetime import UTC, datetime
from typing import Any

from pydantic import AliasChoices, BaseModel, Field, model_validator

from upres.tasks import (
    Failure,
    GpuStatus,
    MediaKind,
    ModelInfo,
    ModelList,
    Phase,
    Progress,
    QueueStatus,
    Result,
    Task,
    TaskSpec,
    TaskState,
)


class Reply(BaseModel):
    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, given: object) -> object:
        return {key: value for key, value in given.items() if value is not None} if isinstance(given, dict) else given


class SubmitReply(Reply):
    task_id: str


class SwitchReply(Reply):
    model: str


class DoneReply(Reply):
    message: str = ""


class StatusReply(Reply):
    """`/api/status/{id}`, and one item of the history."""

    id: str
    status: TaskState
    progress: int = 0
    kind: MediaKind | None = None  # addition
    model: str = ""  # addition
    input_filename: str = ""  # addition
    params: dict[str, Any] = {}
    preview: bool = False  # addition, of a history; elsewhere among the params
    created_at: datetime = datetime.fromtimestamp(0, UTC)
    started_at: datetime | None = None
    completed_at: datetime | None = None
    queue_position: int | None = None
    estimated_wait_seconds: float | None = None  # addition
    phase: Phase = "restoring"  # addition
    frames_done: int | None = None  # addition
    frames_total: int | None = None  # addition
    fps: float = 0.0  # addition
    process_time: float = 0.0
    output_path: str | None = None
    output_filename: str = ""
    output_resolution: str = Field(default="0x0", pattern=r"^\d{1,9}x\d{1,9}$")
    frames: int = 0  # addition
    frame_rate: float = 0.0  # addition
    output_bytes: int = 0  # addition
    audio: tuple[str, ...] = ()  # addition
    device: str = ""  # addition
    warnings: tuple[str, ...] = ()  # addition
    error: str | None = None
    error_code: str = "worker_failed"  # addition

    def task(self) -> Task:
        """Its `input_path` is a name alone: the server works on a copy of its own."""
        known = {name: self.params[name] for name in TaskSpec.model_fields if name in self.params}
        spec = {"preview": self.preview, **known, "input_path": self.input_filename}
        return Task(
            id=self.id, spec=TaskSpec.model_construct(**spec),
            kind=self.kind if self.kind is not None else self._guessed_kind(),
            model=self._model(), state=self.status, progress=self._progress(),
            created_at=_utc(self.created_at).timestamp(),
            started_at=None if self.started_at is None else _utc(self.started_at).timestamp(),
            completed_at=None if self.completed_at is None else _utc(self.completed_at).timestamp(),
            queue_position=self.queue_position, estimated_wait_s=self.estimated_wait_seconds,
            failure=None if self.error is None else Failure(code=self.error_code, message=self.error),
            result=self._result(),
        )  # fmt: skip

    def _guessed_kind(self) -> MediaKind:
        media_type, _ = mimetypes.guess_type(self.output_filename)
        return "image" if media_type is not None and media_type.startswith("image/") else "video"

    def _model(self) -> str:
        return self.model if self.model else str(self.params.get("dit_model", ""))

    def _progress(self) -> Progress:
        """Of a server that counts no frames, percent stand for them."""
        if self.status is not TaskState.PROCESSING:
            return Progress()
        if self.frames_done is None or self.frames_total is None:
            return Progress(phase=self.phase, frames_done=self.progress, frames_total=100)
        return Progress(phase=self.phase, frames_done=self.frames_done, frames_total=self.frames_total, fps=self.fps)

    def _result(self) -> Result | None:
        if self.status is not TaskState.COMPLETED:
            return None
        width, height = self.output_resolution.split("x")
        return Result(output_path=self.output_filename if self.output_path is None else self.output_path,
                      width=int(width), height=int(height), frames=self.frames, model=self._model(), device=self.device,
                      process_time_s=self.process_time, fps=self.frame_rate, size_bytes=self.output_bytes,
                      audio=self.audio, warnings=self.warnings)  # fmt: skip


def _utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time


class HistoryReply(Reply):
    history: list[StatusReply]


class RunningReply(Reply):
    task_id: str
    progress: int = 0
    model: str = ""
    input_filename: str = ""  # addition


class PendingReply(Reply):
    task_id: str = Field(validation_alias=AliasChoices("task_id", "id"))
    position: int = 0
    input_filename: str = ""  # addition


class QueueReply(Reply):
    processing: RunningReply | str | None = None  # the SeedVR2 server gives the bare id
    pending_tasks: list[PendingReply] = []
    total_completed: int = 0
    total_failed: int = 0
    avg_process_time: float = 0.0
    estimated_total_wait: float = 0.0

    def queue(self) -> QueueStatus:
        """Its tasks carry no more than the reply: id, file, state, position; of the running one progress, model."""
        running = RunningReply(task_id=self.processing) if isinstance(self.processing, str) else self.processing
        first = [] if running is None else [StatusReply(
            id=running.task_id, status=TaskState.PROCESSING, progress=running.progress, model=running.model,
            input_filename=running.input_filename, queue_position=1)]  # fmt: skip
        rest = [StatusReply(id=task.task_id, status=TaskState.QUEUED, queue_position=task.position,
                            input_filename=task.input_filename) for task in self.pending_tasks]  # fmt: skip
        return QueueStatus(
            processing=tuple(task.task() for task in first), pending=tuple(task.task() for task in rest),
            total_completed=self.total_completed, total_failed=self.total_failed,
            avg_process_time_s=self.avg_process_time, estimated_total_wait_s=self.estimated_total_wait,
        )  # fmt: skip


class ModelReply(Reply):
    name: str
    params: str = ""
    precision: str = ""
    size: str = ""
    vram: str = ""
    variant: str = ""
    desc: dict[str, str] = {}
    best_for: str = ""  # addition


class AbsentReply(Reply):
    best_for: str = ""
    models: list[ModelReply] = []


class ModelsReply(Reply):
    models: list[ModelReply]
    not_installed: list[AbsentReply] = []  # addition
    default: str
    current: str | None = None
    loading_model: str | None = None

    def listing(self) -> ModelList:
        models = tuple(ModelInfo(**model.model_dump(), architecture="", installed=True) for model in self.models)
        absent = tuple(
            ModelInfo(**{**model.model_dump(), "best_for": group.best_for}, architecture="", installed=False)
            for group in self.not_installed for model in group.models
        )  # fmt: skip
        return ModelList(models=models, absent=absent, default=self.default, current=self.current,
                         loading_model=self.loading_model)  # fmt: skip


class GpuReply(Reply):
    cuda_available: bool = False
    gpu_name: str | None = None
    vram_used_mb: int = 0
    vram_total_mb: int = 0
    current_model: str | None = None
    loading_model: str | None = None
    current_task: str | None = None
    device: str = ""  # addition
    worker_pid: int | None = None  # addition
    quarantined_until: datetime | None = None  # addition
    fault: str | None = None  # addition

    def gpu(self) -> GpuStatus:
        until = None if self.quarantined_until is None else _utc(self.quarantined_until).timestamp()
        return GpuStatus(**{**self.model_dump(), "quarantined_until": until})
