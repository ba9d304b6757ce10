"""What a task is: its order, its state, its progress and its result. Knows nothing of stores, workers or models."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import PurePath
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from upres.errors import InvalidParameter

MediaKind = Literal["image", "video"]
ColorCorrection = Literal["lab", "wavelet", "wavelet_adaptive", "hsv", "adain", "none"]
Tiling = Literal["auto", "on", "off"]
VaeQuality = Literal["low", "medium", "high"]
Phase = Literal["waiting", "loading", "restoring", "finishing"]
Codec = Literal["auto", "h264", "h265", "av1", "vp9", "prores", "ffv1", "png", "tiff"]
OutputFormat = Literal["auto", "mp4", "mov", "mkv", "webm", "zip", "png", "jpeg", "webp", "tiff"]
Fit = Literal["bars", "crop", "stretch"]
Encoder = Literal["software", "nvenc", "auto"]
Preset = Literal["auto", "fast", "medium", "slow"]
Interlaced = Literal["deinterlace", "keep", "refuse"]


class TaskState(StrEnum):
    QUEUED = "queued"  # -> processing, cancelled
    PROCESSING = "processing"  # -> completed, failed, cancelled; -> queued when its worker died
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        return self in (TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED)

    @property
    def without_result(self) -> str:
        """What to do where a result is asked for that is not there."""
        return "it ended without one: submit it again" if self.finished else "its result exists once it is completed"


def _frames_per_window(value: int) -> int:
    below = value - (value - 1) % 4
    if value != below:
        raise ValueError(f"{value} frames are not 4n+1; use {below} or {below + 4}")
    return value


def _whole_number(value: object) -> object:
    """Of a form field: literals, unlike ints, are not read from text."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


class TaskSpec(BaseModel):
    """The order for one restored file. Every default of the public APIs is written here and nowhere else, but for
    those in which FlashVSR's API differs: they are in `FLASHVSR_API`, below.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    input_path: str
    kind: MediaKind | None = None  # what the caller says the file is; None accepts either
    resolution: Annotated[int, Field(ge=16, le=16384)] = 1080  # target short side, pixels
    scale: Annotated[float, Field(ge=1, le=8)] | None = None  # times the input's size, instead of resolution
    preprocess_width: Annotated[int, Field(ge=128, le=16384)] | None = None  # the input is brought to it first
    preserve_aspect_ratio: bool = True  # False: what is beyond multiples of 128 pixels is cut off, evenly all round
    batch_size: Annotated[int, Field(ge=1, le=1025), AfterValidator(_frames_per_window)] = 5
    dit_model: str | None = None  # None and "default" mean the catalogue's default
    color_correction: ColorCorrection = "lab"
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 42
    vae_tiling: Tiling = "auto"
    vae_quality: VaeQuality = "high"
    sparse_ratio: Annotated[float, Field(ge=1, le=4)] = 2.0  # FlashVSR: key blocks a query block may see, in 60s
    local_range: Annotated[int, Field(ge=7, le=15)] = 11  # FlashVSR: how far it looks, in windows of 128 pixels
    kv_ratio: Annotated[float, Field(ge=1, le=16)] = 3.0  # FlashVSR: how many time slices it remembers
    width: Annotated[int, Field(ge=16, le=16384)] | None = None  # exact size, instead of resolution; one side: the
    height: Annotated[int, Field(ge=16, le=16384)] | None = None  # other follows
    fit: Fit = "bars"  # what becomes of the aspect where width and height have another
    max_side: Annotated[int, Field(ge=16, le=16384)] | None = None  # no side of the result exceeds it
    codec: Codec = "auto"  # of a video's picture: H.264, H.265 for more than 8 bits, what output_format asks for
    output_format: OutputFormat = "auto"  # container or image format; output_path's suffix says the same
    crf: Annotated[int, Field(ge=0, le=63)] | None = None  # a video's quality, lower is better; None: the codec's own
    quality: Annotated[int, Field(ge=1, le=100)] = 90  # of JPEG and WebP
    bit_depth: Annotated[Literal[8, 10, 16], BeforeValidator(_whole_number)] | None = None  # None: the input's
    preset: Preset = "auto"  # time the encoder takes for quality at the same crf; auto is decided at submit
    encoder: Encoder = "software"  # auto: nvenc where it works, tried at submit
    interlaced: Interlaced = "deinterlace"
    strict: bool = False  # refuse a damaged input instead of restoring it as far as it goes
    frame_rate: Annotated[float, Field(ge=0.001, le=1000)] = 24.0  # of a folder of images; a video has its own
    preview: bool = False  # the file is a piece of another, cut for a look: lists say so
    output_path: str | None = None  # None: a generated name under the output directory
    overwrite: bool = False  # may output_path replace a file?

    @property
    def says_frame_rate(self) -> bool:
        return bool(self.frame_rate != type(self).model_fields["frame_rate"].default)

    @property
    def input_filename(self) -> str:
        return PurePath(self.input_path).name


FLASHVSR_API: Mapping[str, object] = MappingProxyType({  # an order made there, unless it says otherwise
    "scale": 2.0, "preprocess_width": 640, "preserve_aspect_ratio": False, "seed": 0, "color_correction": "adain",
    "kind": "video",
})  # fmt: skip


def order(**values: object) -> TaskSpec:
    """A TaskSpec from what a caller wrote; what is absent takes its default. Raises InvalidParameter."""
    try:
        return TaskSpec.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        allowed = first["msg"].removeprefix("Value error, ")
        raise InvalidParameter(f"{name}={first['input']!r} cannot be used", remedy=allowed) from error


class Progress(BaseModel):
    """How far an attempt has come. `fps` is output frames per second since the first one."""

    model_config = ConfigDict(frozen=True)

    phase: Phase = "waiting"
    frames_done: int = 0
    frames_total: int = 0
    fps: float = 0.0

    @property
    def percent(self) -> int:
        """0…99: only a completed task is at 100 (see `Task.percent`)."""
        return min(99, 100 * self.frames_done // self.frames_total) if self.frames_total else 0


class Failure(BaseModel):
    model_config = ConfigDict(frozen=True)

    code: str
    message: str
    remedy: str = ""


class Result(BaseModel):
    """What a completed task left behind. Sizes in pixels; `process_time_s` is wall time of the successful attempt."""

    model_config = ConfigDict(frozen=True)

    output_path: str
    width: int
    height: int
    frames: int
    model: str  # the model that really ran
    device: str
    process_time_s: float
    restore_time_s: float | None = None  # of it, without loading the model
    fps: float = 0.0  # on average; 0 of an image, and where a server or an older program did not say
    size_bytes: int = 0  # of the file; 0 likewise
    audio: tuple[str, ...] = ()  # codec names in track order
    warnings: tuple[str, ...] = ()

    @property
    def duration_s(self) -> float:
        return self.frames / self.fps if self.fps else 0.0

    @property
    def output_filename(self) -> str:
        return PurePath(self.output_path).name

    @property
    def output_resolution(self) -> str:
        return f"{self.width}x{self.height}"


class Facts(BaseModel):
    """What submit learnt of the input, and what will become of it. Sizes in pixels."""

    model_config = ConfigDict(frozen=True)

    width: int
    height: int
    fps: float  # 0 for an image
    duration_s: float
    size_bytes: int
    prepared_width: int  # what the model's work begins with: the input, or what `preprocess_width` makes of it
    prepared_height: int
    output_width: int
    output_height: int


class Task(BaseModel):
    """A task as seen at one moment. Times are seconds since the epoch (UTC)."""

    model_config = ConfigDict(frozen=True)

    id: str
    spec: TaskSpec
    kind: MediaKind
    model: str  # the catalogue name `spec.dit_model` resolved to at submit
    state: TaskState
    facts: Facts | None = None  # None: of a remote server's task, or an older program's
    progress: Progress = Progress()
    created_at: float
    started_at: float | None = None
    completed_at: float | None = None
    attempt: int = 0
    cancel_requested: bool = False
    failure: Failure | None = None
    result: Result | None = None
    queue_position: int | None = None  # 1 = next or running; None once finished
    estimated_wait_s: float | None = None  # until this task is finished; None once finished

    @property
    def percent(self) -> int:
        return 100 if self.state is TaskState.COMPLETED else self.progress.percent


class TaskPage(BaseModel):
    """Some tasks, newest first, of the `total` that were asked for; and how many there are in each state."""

    model_config = ConfigDict(frozen=True)

    tasks: tuple[Task, ...]
    total: int
    counts: dict[TaskState, int]


class QueueStatus(BaseModel):
    """The queue at one moment: unfinished tasks in the order in which they will run, running ones first."""

    model_config = ConfigDict(frozen=True)

    processing: tuple[Task, ...]
    pending: tuple[Task, ...]
    total_completed: int
    total_failed: int
    avg_process_time_s: float
    estimated_total_wait_s: float


class GpuStatus(BaseModel):
    """The device and what the worker on it is doing. On a machine without a GPU the worker runs on the CPU."""

    model_config = ConfigDict(frozen=True)

    cuda_available: bool
    gpu_name: str | None
    vram_used_mb: int
    vram_total_mb: int
    gpu_count: int = 0  # that workers may use
    device: str  # "cuda:<uuid>" or "cpu"
    worker_pid: int | None  # None when no worker is alive
    current_model: str | None
    loading_model: str | None
    current_task: str | None
    quarantined_until: float | None = None  # seconds since the epoch: the device failed repeatedly and rests
    fault: str | None = None  # its last one, while it rests


class ModelInfo(BaseModel):
    """One entry of the catalogue as a client sees it."""

    model_config = ConfigDict(frozen=True)

    name: str
    architecture: str
    params: str
    precision: str
    size: str
    vram: str
    variant: str
    desc: dict[str, str]  # language -> one line
    best_for: str = ""  # what to choose it for, and why
    installed: bool
    missing: tuple[str, ...] = ()  # files


class ModelList(BaseModel):
    model_config = ConfigDict(frozen=True)

    models: tuple[ModelInfo, ...]  # installed ones
    absent: tuple[ModelInfo, ...] = ()  # known ones that are not
    default: str
    current: str | None
    loading_model: str | None
