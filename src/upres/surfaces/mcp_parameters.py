"""The parameters of the MCP tools: limits and defaults from TaskSpec, words for a model to read. Knows no tool."""

from __future__ import annotations

from typing import Annotated

from mcp.types import ToolAnnotations
from pydantic import Field

from upres.pictures.values import Excerpt, Focus, PieceSeconds, PieceStart, Place
from upres.tasks import ColorCorrection, TaskSpec

_ORDER = TaskSpec.model_fields  # gives the parameters below their limits and their defaults
_PIECE = Excerpt.model_fields

FilePath = Annotated[str, Field(description="Absolute path, not a URL, on the machine that runs Upres.")]
Resolution = Annotated[int, _ORDER["resolution"], Field(
    description="Target short side in pixels; the aspect is kept. 1080 is Full HD, 2160 is 4K; to double a file, give "
                "twice its own short side (probe_media tells it); for a wanted width of a landscape picture, give "
                "width x its height / its width.")]  # fmt: skip
BatchSize = Annotated[int, _ORDER["batch_size"], Field(
    description="Frames restored together: 1, 5, 9, 13 … (4n+1); more flicker less and need more memory.")]  # fmt: skip
ModelName = Annotated[str | None, _ORDER["dit_model"], Field(
    description="A name from list_available_models, or auto: the best that fits; left out: the default.")]  # fmt: skip
Correction = Annotated[ColorCorrection, _ORDER["color_correction"], Field(
    description="How colours are matched to the input: lab suits most, none keeps the model's own.")]  # fmt: skip
Seed = Annotated[int, _ORDER["seed"], Field(description="The same seed gives the same result.")]
TaskId = Annotated[str, Field(description="The task_id that a submit tool or preview_task returned.")]
Timeout = Annotated[int, Field(ge=0, le=86_400, description="Longest wait in seconds; the answer may come earlier.")]
PollInterval = Annotated[int, Field(ge=1, le=3600, description="Seconds between two progress notifications.")]
Limit = Annotated[int, Field(ge=1, le=1000, description="How many tasks, newest first.")]
Start = Annotated[PieceStart | None, _PIECE["start_s"], Field(
    description="Where the piece begins, seconds from the start of the file; left out: in the middle.")]  # fmt: skip
Seconds = Annotated[PieceSeconds | None, _PIECE["seconds"], Field(
    description="Length of the piece, up to 10; left out: up to one second, less where that takes long.")]  # fmt: skip
Region = Annotated[Place, _PIECE["place"], Field(
    description="The whole picture, or only the half of its width and height that lies there (faster).")]  # fmt: skip
Moment = Annotated[PieceStart | None, Field(
    description="Which moment, in seconds of the file, also of a preview; left out: the middle.")]  # fmt: skip
DetailAt = Annotated[Focus, Field(description="Which part is shown pixel for pixel; auto: where most is to be seen.")]
Against = Annotated[str | None, Field(
    description="Another task's id: its result is shown as the \"before\" instead of the input.")]  # fmt: skip

READS = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
SUBMITS = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False)
RELEASES = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
CANCELS = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False)
