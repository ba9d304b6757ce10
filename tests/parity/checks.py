"""What is done with a recording, by what is in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from . import flashvsr, flashvsr_pipelines, networks, pipelines, pixels, tables
from .recording import Check, NotUnderstood, Recording, Table

CHECKS: tuple[tuple[Callable[[Recording], bool], Callable[[Recording], Sequence[Check]]], ...] = (
    (lambda r: "kwargs" in r.config, networks.weights),
    (lambda r: {"in.frames", "out.final"} <= r.names, pipelines.pipeline),
    (lambda r: {"mid.b0.cond_latent", "mid.b0.upscaled_latent"} <= r.names, pipelines.one_step),
    *networks.CHECKS,
    (lambda r: "in.window_shapes" in r.names, networks.rope),
    (lambda r: {"in.content", "in.style"} <= r.names, pixels.color),
    (lambda r: {"in0", "out0"} <= r.names, pixels.transform),
    (lambda r: any(name.endswith(".prev") for name in r.names), pixels.blend),
    (lambda r: {"upscaled_rgb", "binary.in_alpha"} <= r.names or "gradient.in_alpha" in r.names, pixels.alpha),
    (lambda r: any(name.endswith(".raw") for name in r.names), pixels.quantised),
)

# FlashVSR's files name their kind.
KINDS: dict[str, Callable[[Recording], Sequence[Check]]] = {
    "dit_stream": flashvsr.transformer,
    "lq_proj": flashvsr.projection,
    "tcdecoder": flashvsr.tiny_decoder,
    "wan_vae_decode": flashvsr.wan_decoder,
    "topk_tables": flashvsr.choices,
    "noise": flashvsr.noise,
    "color_fix": flashvsr.color,
    "input_prep": flashvsr_pipelines.preparation,
    "pipeline_tiny_long": flashvsr_pipelines.tiny,
    "pipeline_tiny": flashvsr_pipelines.tiny,
    "pipeline_full": flashvsr_pipelines.full,
}


def check_file(path: Path) -> Sequence[Check]:
    """Raises NotUnderstood for a file that is no recording we know, and what our own code raises."""
    if path.suffix == ".json":
        return tables.check(Table.read(path))
    recording = Recording(path)
    if "kind" in recording.config:
        kind = recording.config["kind"]
        if kind not in KINDS:
            raise NotUnderstood(f"a recording of kind {kind!r}")
        return KINDS[kind](recording)
    for fits, check in CHECKS:
        if fits(recording):
            return check(recording)
    raise NotUnderstood(f"no recording of a kind we know: {', '.join(sorted(recording.names)[:3])} …")
