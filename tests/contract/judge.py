"""Restores a case with a model that only enlarges, and holds what came out against what was promised."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from upres.errors import UpresError
from upres.media.output import output_for
from upres.media.probe import probe
from upres.models.limits import Limits
from upres.models.restorer import StreamSpec
from upres.restore.pipeline import Outcome, restore
from upres.tasks import order

from .cases import Case
from .measure import Measured, distance, measure, pixels, shown_times

AAC_PACKET_S = Fraction(1024, 44100)  # an encoder's first packet may be moved by one of these


class Enlarger:
    """Nothing but bicubic: what is wrong with a result is then the media's fault."""

    limits, device, footprint = Limits(takes="source"), torch.device("cpu"), None

    def open(self, spec: StreamSpec) -> Enlarger:
        self.size, self.fresh = (spec.output_height, spec.output_width), 0
        return self

    def push(self, frames: Tensor) -> Iterator[Tensor]:
        self.fresh += len(frames)
        yield functional.interpolate(frames, size=self.size, mode="bicubic", antialias=True).clamp(-1, 1)

    def flush(self) -> Iterator[Tensor]:
        return iter(())


@dataclass(frozen=True)
class Verdict:
    case: Case
    measured: Measured | None
    faults: tuple[str, ...]
    refused: str = ""
    warnings: tuple[str, ...] = ()
    sync_ms: float | None = None
    error: float | None = None


def judge(case: Case, folder: Path) -> Verdict:
    source = case.make(folder)
    spec = order(input_path=str(source), color_correction="none",
                 **{"resolution": 192, **case.order} if "width" not in case.order else case.order)  # fmt: skip
    try:
        suffix = output_for(spec, probe(source, frame_rate=spec.frame_rate)).suffix
        result = folder / f"result{suffix}"
        outcome = restore(spec, Enlarger(), result, lambda progress: None, segment_frames=10)
    except UpresError as failure:
        right = failure.code == case.refused and bool(failure.remedy)
        return Verdict(case, None, () if right else (f"{failure.code}: {failure}",), refused=failure.code)
    if case.refused:
        return Verdict(case, measure(result), (f"was not refused as {case.refused}",))
    return _compare(case, source, result, outcome)


def _compare(case: Case, source: Path, result: Path, outcome: Outcome) -> Verdict:
    measured = measure(result)
    sync = _sync(source, measured, case) if not source.is_dir() else None
    before, after = pixels(source), pixels(result)
    error = distance(before[: len(after)], after[: len(before)])
    promised = {
        "frames": case.frames if case.frames >= 0 else len(before), "size": case.size, "codec": case.codec,
        "bits": case.bits, "sound": case.sound, "subtitles": case.subtitles, "aspect": case.aspect,
        "rate": measured.rate if case.rate is None else case.rate,
        "colour": measured.colour if case.colour is None else case.colour,
    }  # fmt: skip
    faults = [f"{name}: {getattr(measured, name)}, promised {value}" for name, value in promised.items()
              if getattr(measured, name) != value]  # fmt: skip
    faults += [f"counted {outcome.frames} frames of {measured.frames}"] * (outcome.frames != measured.frames)
    faults += [f"error of {error:.1f} levels"] * (error > case.error)
    unsaid = [piece for piece in case.said if not any(piece in warning for warning in outcome.warnings)]
    faults += [f"not said: {piece}" for piece in unsaid]
    if len(outcome.warnings) != len(case.said) and case.frames >= 0:
        faults.append(f"warnings: {outcome.warnings}")
    if sync is not None and sync > Fraction(1, 24):
        faults.append(f"{float(sync) * 1000:.0f} ms out of sync")
    return Verdict(case, measured, tuple(faults), warnings=outcome.warnings,
                   sync_ms=None if sync is None else float(sync) * 1000, error=error)  # fmt: skip


def _sync(source: Path, result: Measured, case: Case) -> Fraction | None:
    """How far any frame of the result is from its time in the source, or picture from sound; None for a still."""
    if result.rate == "0" or result.codec in ("png", "tiff"):
        return None
    before = measure(source)
    if case.frames < 0:  # which frames a damaged file still has is the decoder's to say: each must be at a time of its
        known = shown_times(source)
        return max(min(abs(time - other) for other in known) for time in result.times)
    drift = max(abs(a - b) for a, b in zip(before.times, result.times, strict=False))
    if before.starts is None or result.starts is None:
        return drift
    shift = abs((result.starts[0] - result.starts[1]) - (before.starts[0] - before.starts[1]))
    return max(drift, shift - 2 * AAC_PACKET_S if case.sound[0] != before.sound[0] else shift - AAC_PACKET_S)
