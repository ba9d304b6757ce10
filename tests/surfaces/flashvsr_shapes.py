"""FlashVSR's public schemas as a typed client of it would write them: nothing missing, nothing more, no other types."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Status = Literal["pending", "processing", "completed", "failed"]
Percent = Annotated[float, Field(ge=0, le=100)]


def _naive(value: datetime) -> datetime:
    assert value.tzinfo is None
    return value


When = Annotated[datetime, AfterValidator(_naive)]


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Parameters(Shape):
    scale: float
    sparse_ratio: float
    local_range: int
    seed: int
    model_variant: str
    preprocess_width: int
    preserve_aspect_ratio: bool


class VideoInfo(Shape):
    width: int | None
    height: int | None
    total_frames: int | None
    fps: int | None
    duration: float | None
    processed_frames: int | None
    processing_time: float | None
    inference_time: float | None
    bit_rate: int | None
    avg_frame_rate: float | None
    preprocess_applied: bool | None
    preprocess_width: int | None
    preprocess_result_width: int | None
    preprocess_result_height: int | None
    predicted_output_width: int | None
    predicted_output_height: int | None


class Task(Shape):
    id: UUID
    created_at: When
    updated_at: When
    started_at: When | None
    finished_at: When | None
    status: Status
    input_file_name: str
    output_file_name: str | None
    video_info: VideoInfo | None
    parameters: Parameters
    progress: Percent
    total_frames: int | None
    processed_frames: int
    estimated_time_remaining: int | None
    error_message: str | None


class TaskList(Shape):
    tasks: list[Task]
    total: int
    page: int
    page_size: int


class Progress(Shape):
    task_id: UUID
    status: Status
    progress: Percent
    started_at: When | None
    finished_at: When | None
    processed_frames: int
    total_frames: int | None
    estimated_time_remaining: int | None
    error_message: str | None


class GpuInfo(Shape):
    name: str
    count: int
    memory_allocated: float
    memory_reserved: float
    memory_total: float


class Counts(Shape):
    total: int
    pending: int
    processing: int
    completed: int
    failed: int


class Weights(Shape):
    version: str
    default_variant: str
    available_variants: list[str]
    ready_variants: dict[str, bool]
    missing_files: list[str]
    model_path: str
    weights_ready: bool
    auto_download_used: bool
    model_source: Literal["local", "ModelScope"] | None


class System(Shape):
    gpu_available: bool
    gpu_info: GpuInfo | None
    tasks: Counts
    flashvsr: Weights


class Assets(Shape):
    flashvsr: Weights


class Choice(Shape):
    label: str
    value: float
    description: str


class FormField(Shape):
    name: str
    label: str
    description: str
    field_type: Literal["number", "boolean"]
    min: float | None
    max: float | None
    step: float | None
    required: bool
    default: float | bool
    recommended: list[Choice]
    ui_group: Literal["preprocess", "advanced", "other"]


class Preset(Shape):
    key: str
    label: str
    description: str
    preprocess_width: int
    scale: float


class FormSchema(Shape):
    fields: list[FormField]
    presets: list[Preset]
