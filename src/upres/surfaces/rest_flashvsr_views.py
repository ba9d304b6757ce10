"""The JSON shapes of FlashVSR's documented API. Knows nothing of transports.

Field names and types are those of the public document and, where it only names a schema, of the application it
describes. Times are UTC without an offset, as there. A cancelled task is shown as a failed one: that API knows no
other end; its `error_message` says which it was.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import PurePath
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, WithJsonSchema

from upres.surfaces.rest import without_folders
from upres.surfaces.rest_flashvsr_ids import as_uuid
from upres.tasks import Facts, Task, TaskPage, TaskState

Status = Literal["pending", "processing", "completed", "failed"]
STATES: dict[Status, tuple[TaskState, ...]] = {
    "pending": (TaskState.QUEUED,), "processing": (TaskState.PROCESSING,), "completed": (TaskState.COMPLETED,),
    "failed": (TaskState.FAILED, TaskState.CANCELLED),
}  # fmt: skip
SHOWN: dict[TaskState, Status] = {state: status for status, states in STATES.items() for state in states}
FAMILY = "flashvsr-"  # the catalogue's names are flashvsr-<version>-<variant>

# UTC without an offset, as the document writes it: RFC 3339, and with it OpenAPI's date-time, would demand one
Naive = Annotated[datetime, WithJsonSchema({"type": "string"})]


def _when(epoch_s: float) -> datetime:
    return datetime.fromtimestamp(epoch_s, UTC).replace(tzinfo=None)


def _maybe(epoch_s: float | None) -> datetime | None:
    return _when(epoch_s) if epoch_s is not None else None


def version_and_variant(model: str) -> tuple[str, str]:
    """Of a model of another family, its name is the variant."""
    if not model.startswith(FAMILY):
        return "", model
    version, _, variant = model.removeprefix(FAMILY).partition("-")
    return version, variant.replace("-", "_")


class TaskParameters(BaseModel):
    scale: float | None
    sparse_ratio: float
    local_range: int
    seed: int
    model_variant: str
    preprocess_width: int | None
    preserve_aspect_ratio: bool

    @classmethod
    def of(cls, task: Task) -> TaskParameters:
        """Of a task that was ordered by `resolution`, the scale that came of it; null where its sizes are unknown."""
        spec, facts = task.spec, task.facts
        scale, width = spec.scale, spec.preprocess_width
        if facts is not None:
            if scale is None:
                scale = round(min(facts.output_width, facts.output_height)
                              / min(facts.prepared_width, facts.prepared_height), 4)  # fmt: skip
            width = facts.prepared_width
        return cls(scale=scale, sparse_ratio=spec.sparse_ratio, local_range=spec.local_range, seed=spec.seed,
                   model_variant=version_and_variant(task.model)[1], preprocess_width=width,
                   preserve_aspect_ratio=spec.preserve_aspect_ratio)  # fmt: skip


class VideoInfo(BaseModel):
    """`width` and `height` are the input's own. `processing_time` is the whole task's, from its start to its end;
    `inference_time` leaves out the loading of the model. Seconds; bits per second of the whole file.
    """

    width: int | None = None
    height: int | None = None
    total_frames: int | None = None
    fps: int | None = None  # rounded; `avg_frame_rate` is exact
    duration: float | None = None
    processed_frames: int | None = None
    processing_time: float | None = None
    inference_time: float | None = None
    bit_rate: int | None = None
    avg_frame_rate: float | None = None
    preprocess_applied: bool | None = None
    preprocess_width: int | None = None
    preprocess_result_width: int | None = None
    preprocess_result_height: int | None = None
    predicted_output_width: int | None = None
    predicted_output_height: int | None = None

    @classmethod
    def of(cls, task: Task, facts: Facts) -> VideoInfo:
        result = task.result
        return cls(
            width=facts.width, height=facts.height, total_frames=task.progress.frames_total,
            fps=round(facts.fps) if facts.fps else None, duration=facts.duration_s if facts.fps else None,
            processed_frames=_processed(task),
            processing_time=result.process_time_s if result is not None else None,
            inference_time=result.restore_time_s if result is not None else None,
            bit_rate=round(facts.size_bytes * 8 / facts.duration_s) if facts.duration_s else None,
            avg_frame_rate=facts.fps if facts.fps else None,
            preprocess_applied=(facts.prepared_width, facts.prepared_height) != (facts.width, facts.height),
            preprocess_width=task.spec.preprocess_width,
            preprocess_result_width=facts.prepared_width, preprocess_result_height=facts.prepared_height,
            predicted_output_width=facts.output_width, predicted_output_height=facts.output_height,
        )  # fmt: skip


class TaskProgressResponse(BaseModel):
    """`progress` is in percent, and 100 only of a completed task: the last frame is not yet the finished file."""

    task_id: UUID
    status: Status
    progress: float
    started_at: Naive | None
    finished_at: Naive | None
    processed_frames: int
    total_frames: int | None
    estimated_time_remaining: int | None
    error_message: str | None

    @classmethod
    def of(cls, task: Task) -> TaskProgressResponse:
        return cls(task_id=as_uuid(task.id), status=SHOWN[task.state], progress=_percent(task),
                   started_at=_maybe(task.started_at), finished_at=_maybe(task.completed_at),
                   processed_frames=_processed(task), total_frames=_total(task),
                   estimated_time_remaining=_remaining_s(task), error_message=_error(task))  # fmt: skip


class TaskResponse(BaseModel):
    """`updated_at` is when the task last changed its state."""

    id: UUID
    created_at: Naive
    updated_at: Naive
    started_at: Naive | None
    finished_at: Naive | None
    status: Status
    input_file_name: str
    output_file_name: str | None
    video_info: VideoInfo | None
    parameters: TaskParameters
    progress: float
    total_frames: int | None
    processed_frames: int
    estimated_time_remaining: int | None
    error_message: str | None

    @classmethod
    def of(cls, task: Task) -> TaskResponse:
        changes = (task.completed_at, task.started_at, task.created_at)
        return cls(
            id=as_uuid(task.id), created_at=_when(task.created_at),
            updated_at=_when(next(time for time in changes if time is not None)),
            started_at=_maybe(task.started_at), finished_at=_maybe(task.completed_at), status=SHOWN[task.state],
            input_file_name=PurePath(task.spec.input_path).name,
            output_file_name=task.result.output_filename if task.result is not None else None,
            video_info=VideoInfo.of(task, task.facts) if task.facts is not None else None,
            parameters=TaskParameters.of(task), progress=_percent(task), total_frames=_total(task),
            processed_frames=_processed(task), estimated_time_remaining=_remaining_s(task),
            error_message=_error(task),
        )  # fmt: skip


def _percent(task: Task) -> float:
    if task.state is TaskState.COMPLETED:
        return 100.0
    done, total = task.progress.frames_done, task.progress.frames_total
    return min(99.9, round(100 * done / total, 2)) if total else 0.0


def _processed(task: Task) -> int:
    return task.result.frames if task.result is not None else task.progress.frames_done


def _total(task: Task) -> int | None:
    return task.progress.frames_total if task.progress.frames_total else None


def _remaining_s(task: Task) -> int | None:
    """From the task's own pace once it has one; before, the queue's estimate."""
    now = task.progress
    if task.state is TaskState.PROCESSING and now.fps > 0:
        return round((now.frames_total - now.frames_done) / now.fps)
    return round(task.estimated_wait_s) if task.estimated_wait_s is not None else None


def _error(task: Task) -> str | None:
    if task.state is TaskState.CANCELLED:
        return "the task was cancelled"
    if task.failure is None:
        return None
    return without_folders(" — ".join(part for part in (task.failure.message, task.failure.remedy) if part))


class TaskListResponse(BaseModel):
    tasks: list[TaskResponse]
    total: int
    page: int
    page_size: int

    @classmethod
    def of(cls, found: TaskPage, page: int, page_size: int) -> TaskListResponse:
        return cls(tasks=[TaskResponse.of(task) for task in found.tasks], total=found.total, page=page,
                   page_size=page_size)  # fmt: skip
