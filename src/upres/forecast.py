"""What a task would be before anyone commits to it: sizes, time, disk, memory, model. Knows no store and no pixels."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from upres.catalog import Catalog
from upres.catalog.model import Model
from upres.disk import Disk
from upres.forecast_values import AUTO, Duration, Forecast, MediaFacts, Memory, Obtainable, Option
from upres.line import start_of
from upres.media.output import LIKELY_SHARE, Output, output_for
from upres.queue.store import Price
from upres.queue.throughput import Times
from upres.restore.memory import MB, Work, footprint, plan_memory
from upres.restore.plan import Plan, Size, plan_clip
from upres.tasks import Preset, TaskSpec

# How far the truth may lie from a rate that was never measured here: how many times faster, how many times slower.
# Cards differ tenfold, and a CPU's cores are rarely all ours.
FASTER, SLOWER = 3.0, 12.0
SPREAD = 1.25  # and from measured ones: other content, other load
PRECISIONS = ("Q4", "FP8", "Q8", "FP16")  # worst to best
LAST_RESORT = "compact"  # its architecture: invents nothing, and restores little
OVERSHARP = "Sharp"  # invents more than it restores: only for who asks for it
SLOW_S = 3600.0  # an estimate from here on earns a warning


@dataclass(frozen=True, slots=True)
class Machine:
    """What the forecast has to know of the machine that would do the work."""

    device: str
    on_gpu: bool
    memory_mb: int  # of the GPU, or the machine
    room_bytes: int  # of that, for tensors
    disk: Disk
    queue_s: float
    longest_s: float  # for which "auto" takes the better of two models
    cores: int = 1  # of the CPU, that a worker may use
    loaded: str | None = None  # the model that a living worker holds: it starts at once


Measured = Callable[[str, Price], Times]  # model, work -> what such work took


def forecast(media: MediaFacts, spec: TaskSpec, catalog: Catalog, measured: Measured, machine: Machine) -> Forecast:
    """Raises InvalidInput, InvalidParameter, ModelNotFound, UnsupportedMedia."""
    output = output_for(spec, media.info())
    model, reason = choose(media, spec, catalog, measured, machine)
    plan = plan_for(media, spec, model)
    output.check_size(plan.frame.width, plan.frame.height)
    work = duration(model, plan, measured, machine)
    most_bytes = output.result_bytes(plan.frame.pixels, plan.frames, media.duration_s * len(media.audio))
    needs, size = (most_bytes, output.work_bytes(most_bytes)), round(most_bytes * LIKELY_SHARE)
    memory, window = memory_of(model, spec, plan, machine)
    preset = preset_for(spec, output, model, on_gpu=machine.on_gpu, cores=machine.cores) if output.codec else None
    return Forecast(
        summary=_summary(media, plan, model, work, size, machine), media=media,
        model=model.name, model_reason=reason, width=plan.frame.width,
        height=plan.frame.height, frames=plan.frames, window=window, windows=-(-plan.frames // window),
        device=machine.device, memory=memory, work=work,
        queue_s=machine.queue_s, preset=preset,
        output_bytes=size, disk_bytes=sum(needs), free_bytes=machine.disk.free_bytes,
        options=tuple(_option(media, spec, other, measured, machine) for other in _installed(catalog)),
        not_installed=tuple(_obtainable(media, spec, model, measured, machine)
                            for model in _distinct(catalog.absent())),
        warnings=(*media.warnings, *output.warnings, *plan.notes, *_warnings(media, plan, model, memory, work),
                  *filter(None, [machine.disk.shortage(*needs)])),
    )  # fmt: skip


def choose(
    media: MediaFacts, spec: TaskSpec, catalog: Catalog, measured: Measured, machine: Machine
) -> tuple[Model, str]:
    """The model that `spec` names, or the best one for "auto"; and why."""
    if spec.dit_model != AUTO:
        model = catalog.find(spec.dit_model)
        return model, "you named it" if spec.dit_model == model.name else "the default of what is installed"
    passed_over: list[str] = []
    candidates = _candidates(media, spec, catalog, machine)
    for model, plan, memory in candidates:
        wanted_s = duration(model, plan, measured, machine).likely_s
        if memory.fits is False:
            passed_over.append(_too_large(model, memory))
        elif wanted_s > machine.longest_s and model.architecture != LAST_RESORT:
            passed_over.append(f"{model.name} would take about {in_words(wanted_s)}")
        else:
            strained = [f"{memory.how}: slower, or in shorter windows"] if memory.strained else []
            best = "the only installed model" if len(candidates) == 1 else "the best installed model"
            why = best if model is candidates[0][0] else "the best that fits and is fast enough"
            return model, "; ".join([why, *strained, *passed_over])
    least = candidates[-1][0]
    return least, "; ".join(["the smallest one, though it may not fit", *passed_over])


def _candidates(
    media: MediaFacts, spec: TaskSpec, catalog: Catalog, machine: Machine
) -> list[tuple[Model, Plan, Memory]]:
    """The best first; those that have to be squeezed onto the device after all others, the smallest of them first."""
    models = [model for model in _installed(catalog) if model.variant != OVERSHARP]
    rows = []
    for model in models if models else _installed(catalog):
        plan = plan_for(media, spec, model)
        rows.append((model, plan, memory_of(model, spec, plan, machine)[0]))

    def rank(row: tuple[Model, Plan, Memory]) -> tuple[bool, bool, float, int]:
        size, bits = _quality(row[0])
        sign = 1 if row[2].strained else -1
        return row[0].architecture == LAST_RESORT, row[2].strained, sign * size, sign * bits

    return sorted(rows, key=rank)


def plan_for(media: MediaFacts, spec: TaskSpec, model: Model) -> Plan:
    """The very plan the worker will make. Raises what `forecast` raises."""
    info = media.info()
    return plan_clip(Size(media.height, media.width), media.frames, media.kind, spec, model.limits,
                     even=output_for(spec, info).even, sample_aspect=info.sample_aspect)  # fmt: skip


def duration(model: Model, plan: Plan, measured: Measured, machine: Machine) -> Duration:
    work = Price(plan.frames, plan.target.pixels)
    times, start_s = measured(model.name, work), start_of(model, machine.loaded)
    rate = model.pixels_per_s_gpu if machine.on_gpu else model.pixels_per_s_core * machine.cores
    guess_s = work.frames * work.pixels / rate
    likely_s = times.likely_s(guess_s)
    if not times.seconds:
        where = "this GPU" if machine.on_gpu else f"{machine.cores} CPU core{'s' if machine.cores > 1 else ''}"
        return _bounded(start_s, likely_s, guess_s / FASTER, guess_s * SLOWER,
                        f"unmeasured: a guess, for this model has not run on {where} yet")  # fmt: skip
    tasks = f"{len(times.seconds)} task{'s' if len(times.seconds) > 1 else ''}"
    low_s, high_s = min(times.seconds) / SPREAD, max(times.seconds) * SPREAD
    if times.at_most:
        return _bounded(start_s, likely_s, min(guess_s / FASTER, low_s), high_s,
                        f"a guess, for this model has only run for {tasks} much smaller than this here")  # fmt: skip
    return _bounded(start_s, likely_s, low_s, high_s, f"measured in {tasks} of this model here")


def preset_for(spec: TaskSpec, output: Output, model: Model, *, on_gpu: bool, cores: int) -> Preset:
    """`auto` is fast where the model outruns what the cores can read and write at medium, else medium.

    The catalogue's figures decide, not this machine's past: equal orders get equal bytes.
    """
    if spec.preset != "auto" or not output.codec:
        return spec.preset
    model_pixels_per_s = model.pixels_per_s_gpu if on_gpu else model.pixels_per_s_core * cores
    return "fast" if not output.nvenc and model_pixels_per_s > output.video.medium_pixels_per_s * cores else "medium"


def memory_of(model: Model, spec: TaskSpec, plan: Plan, machine: Machine) -> tuple[Memory, int]:
    """And the frames of a window, which memory may make fewer."""
    known = footprint(model.architecture, model.params, model.precision, on_gpu=machine.on_gpu)
    room_mb = machine.room_bytes // MB
    if known is None:
        needs = _rough_mb(model)
        fits = needs <= machine.memory_mb if needs is not None and machine.on_gpu else None
        return Memory(fits=fits, needs_mb=needs, room_mb=room_mb), plan.window
    work = Work(plan, spec.vae_tiling, spec.vae_quality, spec.color_correction)
    found = plan_memory(known, work, machine.room_bytes, on_gpu=machine.on_gpu)
    memory = Memory(
        fits=found.fits, needs_mb=found.peak // MB, room_mb=room_mb, encode_mb=found.encode // MB,
        diffuse_mb=found.diffuse // MB, decode_mb=found.decode // MB, weights_mb=found.weights // MB,
        how=str(found.placement), remedy=found.remedy,
        strained=found.window < plan.window or found.placement.offload == "blocks",
    )  # fmt: skip
    return memory, found.window


def _rough_mb(model: Model) -> int | None:
    found = re.search(r"([\d.]+)\s*GB", model.vram)
    return round(float(found[1]) * 1000) if found else None  # a card sold as 24 GB reports 24,564 MiB


def _too_large(model: Model, memory: Memory) -> str:
    return f"{model.name} needs about {memory.needs_mb} MB, there is room for {memory.room_mb} MB"


def in_words(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`: as exact as an estimate deserves."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _bounded(start_s: float, likely: float, low: float, high: float, basis: str) -> Duration:
    return Duration(likely_s=round(start_s + likely, 1), low_s=round(low, 1), high_s=round(4 * start_s + high, 1),
                    basis=basis)  # fmt: skip


def _installed(catalog: Catalog) -> list[Model]:
    return [catalog.find(name) for name in catalog.installed_names()]


def _quality(model: Model) -> tuple[float, int]:
    """More parameters first, then more bits."""
    found = re.fullmatch(r"([\d.]+)([MB])", model.params)
    size = float(found[1]) * {"M": 1e6, "B": 1e9}[found[2]] if found else 0.0
    return size, PRECISIONS.index(model.precision) if model.precision in PRECISIONS else len(PRECISIONS)


def _summary(media: MediaFacts, plan: Plan, model: Model, work: Duration, size: int, machine: Machine) -> str:
    what = str(plan.frame) if media.kind == "image" else f"{plan.frames} frames of {plan.frame}"
    queue = f", after about {in_words(machine.queue_s)} in the queue" if machine.queue_s else ""
    return (f"{what} with {model.name}: about {in_words(work.likely_s)} ({in_words(work.low_s)} to "
            f"{in_words(work.high_s)}, {work.basis}){queue}; a file of about {size / 1e6:.3g} MB")  # fmt: skip


def _option(media: MediaFacts, spec: TaskSpec, model: Model, measured: Measured, machine: Machine) -> Option:
    plan = plan_for(media, spec, model)
    memory, _ = memory_of(model, spec, plan, machine)
    return Option(model=model.name, memory=memory, likely_s=duration(model, plan, measured, machine).likely_s)


def _distinct(models: list[Model]) -> list[Model]:
    """Of those that need the same the first."""
    first: dict[tuple[str, ...], Model] = {}
    for model in models:
        first.setdefault((model.architecture, model.params, model.precision, model.size), model)
    return list(first.values())


def _obtainable(media: MediaFacts, spec: TaskSpec, model: Model, measured: Measured, machine: Machine) -> Obtainable:
    option = _option(media, spec, model, measured, machine)
    return Obtainable(model=model.name, download=model.size, needs_mb=option.memory.needs_mb, fits=option.memory.fits,
                      likely_s=option.likely_s)  # fmt: skip


def _warnings(
    media: MediaFacts, plan: Plan, model: Model, memory: Memory, work: Duration
) -> list[str]:
    found = []
    scale = Fraction(plan.target.height, media.height)
    if scale < 1:
        found.append(f"the result, {plan.target}, is smaller than the file, {media.width}x{media.height}")
    elif scale > 4:
        found.append(f"{float(scale):.1f} times the size: detail beyond 4 times is invented rather than restored")
    if memory.fits is False:
        found.append("; ".join(part for part in (_too_large(model, memory), memory.remedy) if part))
    if work.likely_s > SLOW_S:
        found.append(f"this takes about {in_words(work.likely_s)}; a smaller resolution or model is faster")
    return found
