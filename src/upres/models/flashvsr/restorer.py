"""FlashVSR as a Restorer: its files and their versions. Knows nothing of tasks, colour or how frames are resized."""

from __future__ import annotations

from pathlib import Path

import torch

from upres.errors import WeightsInvalid
from upres.models.flashvsr.checkpoint import load_dit, load_projection, load_prompt, load_tiny, load_wan
from upres.models.flashvsr.noise import Noise, StepNoise
from upres.models.flashvsr.stream import FlashVsrStream, Parts
from upres.models.limits import FLASHVSR
from upres.models.restorer import StreamSpec

Files = tuple[Path, ...]


def load_v1_1_tiny(files: Files, device: torch.device) -> FlashVsrRestorer:
    return load(files, device, causal=True, full=False)


def load_v1_1_full(files: Files, device: torch.device) -> FlashVsrRestorer:
    return load(files, device, causal=True, full=True)


def load_v1_tiny(files: Files, device: torch.device) -> FlashVsrRestorer:
    return load(files, device, causal=False, full=False)


def load_v1_full(files: Files, device: torch.device) -> FlashVsrRestorer:
    return load(files, device, causal=False, full=True)


def load(files: Files, device: torch.device, *, causal: bool, full: bool) -> FlashVsrRestorer:
    """files: transformer, LQ projection, prompt, and the tiny decoder or, for `full`, Wan's. `causal` is v1.1.

    Raises WeightsInvalid, FileMissing.
    """
    if len(files) != 4:
        raise WeightsInvalid(f"FlashVSR is four weights files, got {len(files)}",
                             remedy="name transformer, LQ projection, prompt and decoder")  # fmt: skip
    dtype = compute_dtype(device)
    dit = load_dit(files[0], device, dtype)
    projection = load_projection(files[1], device, dtype, causal=causal)
    prompt = load_prompt(files[2], device, dtype)
    decoder = (load_wan if full else load_tiny)(files[3], device, dtype)
    for path, what, width, wanted in (
        (files[1], "outputs", projection.config.dim, dit.config.dim),
        (files[2], "columns", prompt.shape[-1], dit.config.text_dim),
    ):
        if width != wanted:
            raise WeightsInvalid(f"{path.name} has {width} {what}, its transformer takes {wanted}",
                                 remedy="give files of the same model")  # fmt: skip
    with torch.inference_mode():
        conditioning = dit.conditioning(prompt)
    return FlashVsrRestorer(Parts(dit, projection, decoder, conditioning, dtype), device)


def compute_dtype(device: torch.device) -> torch.dtype:
    """bfloat16, as the reference; float32 on a CPU, where halves are slower, and on GPUs without bfloat16."""
    able = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if able else torch.float32


class FlashVsrRestorer:
    """Three networks on a device. The streams it opens share nothing but their weights."""

    limits = FLASHVSR
    footprint = None  # it needs the same at every step and cannot do with less

    def __init__(self, parts: Parts, device: torch.device) -> None:
        self.parts, self.device = parts, device

    def open(self, spec: StreamSpec, *, noise: Noise | None = None) -> FlashVsrStream:
        """`spec.window` and the tiling have no effect: a step is always eight frames of whole size, of which the
        decoders, too, hold no more than that.
        """
        drawn = StepNoise(spec.seed, self.device, self.parts.dtype) if noise is None else noise
        return FlashVsrStream(self.parts, spec, drawn, self.device)
