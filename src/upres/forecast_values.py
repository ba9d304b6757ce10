"""What a dry run says: of a file, and of the task that it would be. Knows neither models nor machines."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from upres.media.probe import HDR_TRANSFERS, MediaInfo
from upres.tasks import MediaKind, Preset

AUTO = "auto"  # as a model's name: the best that fits
ASPECT = r"^[1-9]\d{0,5}(/[1-9]\d{0,5})?$"


class MediaFacts(BaseModel):
    """A file as `probe` found it, for people and programs."""

    model_config = ConfigDict(frozen=True)

    file: str
    kind: MediaKind
    format: str = ""
    codec: str = ""
    width: Annotated[int, Field(ge=1, le=100_000)]
    height: Annotated[int, Field(ge=1, le=100_000)]
    frames: Annotated[int, Field(ge=1, le=10**12)] = 1
    fps: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    duration_s: Annotated[float, Field(ge=0, le=1e9)] = 0.0
    bytes: int = 0
    pix_fmt: str = ""
    hdr: bool = False
    interlaced: bool = False
    variable_frame_rate: bool = False
    has_alpha: bool = False
    rotation: int = 0
    sample_aspect: Annotated[str, Field(pattern=ASPECT)] = "1"  # a pixel's width by its height
    bit_depth: Annotated[int, Field(ge=1, le=32)] = 8
    foreign_profile: bool = False  # an image's colours are not sRGB's
    damage: str = ""  # what is wrong with it
    audio: tuple[str, ...] = ()
    subtitles: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, info: MediaInfo) -> MediaFacts:
        return cls(
            file=info.path.name, kind=info.kind, format=info.format, codec=info.codec, width=info.width,
            height=info.height, frames=info.frames, fps=round(float(info.fps), 3),
            duration_s=round(info.duration_s, 3), bytes=info.size_bytes, pix_fmt=info.pix_fmt, hdr=info.hdr,
            interlaced=info.interlaced, variable_frame_rate=info.variable_frame_rate, has_alpha=info.has_alpha,
            rotation=info.rotation, sample_aspect=str(info.sample_aspect), bit_depth=info.bit_depth,
            foreign_profile=info.foreign_profile, damage=info.damage,
            audio=info.audio, subtitles=info.subtitles, warnings=info.warnings,
        )  # fmt: skip

    def info(self) -> MediaInfo:
        """As far as these facts go: enough for sizes and for what can be written."""
        return MediaInfo(
            path=Path(self.file), kind=self.kind, format=self.format, codec=self.codec, width=self.width,
            height=self.height, frames=self.frames, fps=Fraction(self.fps), duration_s=self.duration_s,
            sample_aspect=Fraction(self.sample_aspect), rotation=self.rotation, pix_fmt=self.pix_fmt,
            bit_depth=self.bit_depth, has_alpha=self.has_alpha, interlaced=self.interlaced,
            variable_frame_rate=self.variable_frame_rate, transfer=HDR_TRANSFERS[0] if self.hdr else None,
            audio=self.audio, subtitles=self.subtitles, warnings=self.warnings, damage=self.damage,
            foreign_profile=self.foreign_profile,
        )  # fmt: skip


class Duration(BaseModel):
    """Seconds of work, most likely and between which bounds; `basis` says where the numbers come from."""

    model_config = ConfigDict(frozen=True)

    likely_s: float
    low_s: float
    high_s: float
    basis: str


class Memory(BaseModel):
    """What a task takes of the device's memory, MB. Only `fits`, `needs_mb` and `room_mb` where nothing predicts the
    model's phases; `fits` is None where not even the rough figure of the catalogue helps.
    """

    model_config = ConfigDict(frozen=True)

    fits: bool | None
    needs_mb: int | None
    room_mb: int
    encode_mb: int | None = None
    diffuse_mb: int | None = None
    decode_mb: int | None = None
    weights_mb: int | None = None  # on the device, in the phase that has most of them there
    how: str | None = None  # what is offloaded, how frames are cut
    strained: bool = False  # it only fits with weights streamed from host memory, or in shorter windows than asked for
    remedy: str = ""


class Option(BaseModel):
    """One installed model for this file."""

    model_config = ConfigDict(frozen=True)

    model: str
    memory: Memory
    likely_s: float


class Obtainable(BaseModel):
    """A model that is not installed, and what it would need for this file."""

    model_config = ConfigDict(frozen=True)

    model: str
    download: str  # size of its files
    needs_mb: int | None
    fits: bool | None
    likely_s: float


class Forecast(BaseModel):
    """The dry run of a task. Nothing is reserved: a queue that moves, or other load, changes the times."""

    model_config = ConfigDict(frozen=True)

    summary: str
    media: MediaFacts
    model: str
    model_reason: str
    width: int
    height: int
    frames: int
    window: int  # frames that go through the model together
    windows: int
    device: str
    memory: Memory
    work: Duration
    queue_s: float  # until it would start
    preset: Preset | None = None  # of the encoder; None of an image, and where an older server did not say
    output_bytes: int
    disk_bytes: int  # needed at most while it runs
    free_bytes: int
    options: tuple[Option, ...]
    not_installed: tuple[Obtainable, ...] = ()
    warnings: tuple[str, ...]
