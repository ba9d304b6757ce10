"""What a task would be before anyone commits to it: sizes, time, disk, memory, model. Knows no store and no pixels."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from upres.catalog import Catalog
from upres.catalog.model import Model
from upres.media.probe import MediaInfo
from upres.queue.store import Price
from upres.restore.plan import Plan, Size, plan_clip
from upres.tasks import MediaKind, TaskSpec

AUTO = "auto"
START_S = 2.0  # of a worker and its model, roughly
GUESS_FACTOR = 3.0  # how far the truth may lie from a rate that was never measured here, either way
SPREAD = 1.25  # and from measured ones: other content, other load
# H.264, CRF 18, bits per output pixel: 0.10 to 0.25 on restored film; PNG: bytes per pixel of photographs
VIDEO_BITS_PER_PIXEL, IMAGE_BYTES_PER_PIXEL = 0.2, 1.9
PRECISIONS = ("Q4", "FP8", "Q8", "FP16")  # worst to best
OVERSHARP = "Sharp"  # invents more than it restores: only for who asks for it
SLOW_S = 3600.0  # an estimate from here on earns a warning


class Facts(BaseModel):
    """A file as `probe` found it, for people and programs."""

    model_config = ConfigDict(frozen=True)

    file: str
    kind: MediaKind
    format: str = ""
    codec: str = ""
    width: Annotated[int, Field(ge=1, le=100_000)]
    height: Annotated[int, Field(ge=1, le=100_000)]
    frames: Annotated[int, Field(ge=1)] = 1
    fps: Annotated[float, Field(ge=0)] = 0.0
    duration_s: Annotated[float, Field(ge=0)] = 0.0
    bytes: int = 0
    pix_fmt: str = ""
    hdr: bool = False
    interlaced: bool = False
    variable_frame_rate: bool = False
    has_alpha: bool = False
    rotation: int = 0
    audio: tuple[str, ...] = ()
    subtitles: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, info: MediaInfo) -> Facts:
        return cls(
            file=info.path.name, kind=info.kind, format=info.format, codec=info.codec, width=info.width,
            height=info.height, frames=info.frames, fps=round(float(info.fps), 3),
            duration_s=round(info.duration_s, 3), bytes=info.path.stat().st_size, pix_fmt=info.pix_fmt, hdr=info.hdr,
            interlaced=info.interlaced, variable_frame_rate=info.variable_frame_rate, has_alpha=info.has_alpha,
            rotation=info.rotation, audio=info.audio, subtitles=info.subtitles, warnings=info.warnings,
        )  # fmt: skip


class Duration(BaseModel):
    """Seconds of work, most likely and between which bounds; `basis` says where the numbers come from."""

    model_config = ConfigDict(frozen=True)

    likely_s: float
    low_s: float
    high_s: float
    basis: str


class Option(BaseModel):
    """One installed model for this file."""

    model_config = ConfigDict(frozen=True)

    model: str
    fits: bool | None  # the device's memory; None where that is not known
    needs_mb: int | None
    likely_s: float


class Forecast(BaseModel):
    """The dry run of a task. Nothing is reserved: a queue that moves, or other load, changes the times."""

    model_config = ConfigDict(frozen=True)

    summary: str
    facts: Facts
    model: str
    model_reason: str
    width: int
    height: int
    frames: int
    window: int  # frames that go through the model together
    windows: int
    device: str
    device_memory_mb: int | None  # None on a CPU
    work: Duration
    queue_s: float  # until it would start
    output_bytes: int
    disk_bytes: int  # needed at most while it runs
    free_bytes: int
    options: tuple[Option, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Machine:
    """What the forecast has to know of the machine that would do the work."""

    device: str
    memory_mb: int  # 0 on a CPU
    free_bytes: int
    reserve_bytes: int
    queue_s: float
    longest_s: float  # for which "auto" takes the better of two models


Rates = Callable[[str, Price], Sequence[float]]  # model, work -> output pixels per second, as measured on such work


def forecast(facts: Facts, spec: TaskSpec, catalog: Catalog, rates: Rates, machine: Machine) -> Forecast:
    """Raises InvalidParameter, ModelNotFound, UnsupportedMedia."""
    model, reason = choose(facts, spec, catalog, rates, machine)
    plan = plan_for(facts, spec, model)
    work = duration(model, plan, rates, machine)
    size = output_bytes(facts, plan)
    return Forecast(
        summary=_summary(facts, plan, model, work, size, machine), facts=facts,
        model=model.name, model_reason=reason, width=plan.target.width,
        height=plan.target.height, frames=plan.frames, window=plan.window, windows=-(-plan.frames // plan.window),
        device=machine.device, device_memory_mb=machine.memory_mb if machine.memory_mb else None, work=work,
        queue_s=machine.queue_s, output_bytes=size, disk_bytes=2 * size, free_bytes=machine.free_bytes,
        options=tuple(_option(facts, spec, other, rates, machine) for other in _installed(catalog)),
        warnings=tuple(_warnings(facts, plan, model, work, 2 * size, machine)),
    )  # fmt: skip


def choose(
    facts: Facts, spec: TaskSpec, catalog: Catalog, rates: Rates, machine: Machine
) -> tuple[Model, str]:
    """The model that `spec` names, or the best one for "auto"; and why."""
    if spec.dit_model != AUTO:
        model = catalog.find(spec.dit_model)
        return model, "you named it" if spec.dit_model == model.name else "the default of what is installed"
    ranked = sorted(_installed(catalog), key=_quality, reverse=True)
    ranked = [model for model in ranked if model.variant != OVERSHARP] or ranked
    passed_over: list[str] = []
    for model in ranked:
        wanted_s = duration(model, plan_for(facts, spec, model), rates, machine).likely_s
        if fits(model, machine) is False:
            passed_over.append(f"{model.name} needs {model.vram.lstrip('~')}, the card has {machine.memory_mb} MB")
        elif wanted_s > machine.longest_s and model is not ranked[-1]:
            passed_over.append(f"{model.name} would take about {in_words(wanted_s)}")
        else:
            why = "the best installed model" if not passed_over else "the best of those that fit and are fast enough"
            return model, "; ".join([why, *passed_over])
    least = ranked[-1]
    return least, "; ".join(["the smallest one, though it may not fit", *passed_over])


def plan_for(facts: Facts, spec: TaskSpec, model: Model) -> Plan:
    return plan_clip(Size(facts.height, facts.width), facts.frames, facts.kind, spec, model.limits)


def duration(model: Model, plan: Plan, rates: Rates, machine: Machine) -> Duration:
    work = plan.frames * plan.target.pixels
    measured = rates(model.name, Price(plan.frames, plan.target.pixels))
    if not measured:
        guess = model.pixels_per_s_gpu if machine.memory_mb else model.pixels_per_s_cpu
        return _bounded(work / guess, work / guess / GUESS_FACTOR, work / guess * GUESS_FACTOR,
                        "a guess: this model has not run here yet")  # fmt: skip
    times = [work / rate for rate in measured]
    basis = f"measured in {len(times)} task{'s' if len(times) > 1 else ''} of this model here"
    return _bounded(sum(times) / len(times), min(times) / SPREAD, max(times) * SPREAD, basis)


def fits(model: Model, machine: Machine) -> bool | None:
    """By the catalogue's rough figure for the model; None where that or the card's memory is not known."""
    needs = needs_mb(model)
    return None if needs is None or not machine.memory_mb else needs <= machine.memory_mb


def needs_mb(model: Model) -> int | None:
    found = re.search(r"([\d.]+)\s*GB", model.vram)
    return round(float(found[1]) * 1000) if found else None  # a card sold as 24 GB reports 24,564 MiB


def output_bytes(facts: Facts, plan: Plan) -> int:
    pixels = plan.frames * plan.target.pixels
    if facts.kind == "image":
        return round(pixels * IMAGE_BYTES_PER_PIXEL)
    sound = round(facts.duration_s * 24_000) * len(facts.audio)  # 192 kbit/s
    return round(pixels * VIDEO_BITS_PER_PIXEL / 8) + sound


def in_words(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`: as exact as an estimate deserves."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _bounded(likely: float, low: float, high: float, basis: str) -> Duration:
    return Duration(likely_s=round(START_S + likely, 1), low_s=round(low, 1), high_s=round(2 * START_S + high, 1),
                    basis=basis)  # fmt: skip


def _installed(catalog: Catalog) -> list[Model]:
    return [catalog.find(name) for name in catalog.installed_names()]


def _quality(model: Model) -> tuple[float, int]:
    """More parameters first, then more bits."""
    found = re.fullmatch(r"([\d.]+)([MB])", model.params)
    size = float(found[1]) * {"M": 1e6, "B": 1e9}[found[2]] if found else 0.0
    return size, PRECISIONS.index(model.precision) if model.precision in PRECISIONS else len(PRECISIONS)


def _summary(facts: Facts, plan: Plan, model: Model, work: Duration, size: int, machine: Machine) -> str:
    what = str(plan.target) if facts.kind == "image" else f"{plan.frames} frames of {plan.target}"
    queue = f", after about {in_words(machine.queue_s)} in the queue" if machine.queue_s else ""
    return (f"{what} with {model.name}: about {in_words(work.likely_s)} ({in_words(work.low_s)} to "
            f"{in_words(work.high_s)}, {work.basis}){queue}; a file of about {size / 1e6:.3g} MB")  # fmt: skip


def _option(facts: Facts, spec: TaskSpec, model: Model, rates: Rates, machine: Machine) -> Option:
    work = duration(model, plan_for(facts, spec, model), rates, machine)
    return Option(model=model.name, fits=fits(model, machine), needs_mb=needs_mb(model), likely_s=work.likely_s)


def _warnings(facts: Facts, plan: Plan, model: Model, work: Duration, disk: int, machine: Machine) -> list[str]:
    found = list(facts.warnings)
    scale = Fraction(plan.target.height, facts.height)
    if scale < 1:
        found.append(f"the result, {plan.target}, is smaller than the file, {facts.width}x{facts.height}")
    elif scale > 4:
        found.append(f"{float(scale):.1f} times the size: detail beyond 4 times is invented rather than restored")
    if fits(model, machine) is False:
        found.append(f"{model.name} needs about {model.vram.lstrip('~')}, the card has {machine.memory_mb} MB")
    if work.likely_s > SLOW_S:
        found.append(f"this takes about {in_words(work.likely_s)}; a smaller resolution or model is faster")
    if disk + machine.reserve_bytes > machine.free_bytes:
        found.append(f"about {disk // 10**6} MB are needed beside the reserve of {machine.reserve_bytes // 2**20} MB, "
                     f"{machine.free_bytes // 10**6} MB are free")  # fmt: skip
    return found
