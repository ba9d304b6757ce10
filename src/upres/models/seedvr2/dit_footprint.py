"""What the transformer holds while a window passes it, in bytes. Numbers only: no torch.

It follows dit.py line by line: what a caller still refers to is still there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from upres.models.seedvr2.config import INPUT_CHANNELS, LATENT_CHANNELS, MODULATIONS, PATCH, DitConfig
from upres.models.seedvr2.spans import window_spans

SINGLE = 4  # bytes of float32, in which norms, rotations and gates are computed whatever the tokens are
INDEX = 8  # bytes
LATENT_VALUES = PATCH**2 * (3 * LATENT_CHANNELS + INPUT_CHANNELS + LATENT_CHANNELS + 1)  # see `working`
PAIRS = {"counted": 3, "centred": 6}  # a rotary axis takes 1/3 of the head's pairs; of half of them in the 7B


@dataclass(frozen=True, slots=True)
class Widening:
    """How a stored weight becomes one to compute with, bytes a value at most while that happens. 0: it is one."""

    bytes: int = 0

    @classmethod
    def of(cls, storage: str, value_bytes: int) -> Widening:
        """storage: fp32, fp16, fp8, q8 or q4; value_bytes: of what is computed in.

        Quantised ones are unpacked in float16, or in float32 where tokens are; the numbers and their product are there
        at once, and in the K types the nibbles.
        """
        arithmetic = 4 if value_bytes == 4 else 2
        return cls({"fp32": 0, "fp16": 0 if value_bytes == 2 else value_bytes, "fp8": value_bytes, "q8": 2 * arithmetic,
                    "q4": 1 + 2 * arithmetic}[storage])  # fmt: skip


def working(config: DitConfig, grid: tuple[int, int, int], text: int, value_bytes: int, widening: Widening) -> int:
    """grid: latent frames, rows and columns of tokens; text: its length.

    Beside the network's own there are the window's latents, two draws of noise, the condition with its mask, and the
    network's input.
    """
    tokens, rows, copies = math.prod(grid), 0, 0
    for shifted in (False, True):
        counted = math.prod(len(axis) for axis in window_spans(grid, shifted))
        copies += counted * text
        rows = max(rows, tokens + counted * text)
    held = LATENT_VALUES * tokens * value_bytes + 2 * INDEX * (2 * tokens + copies)
    held += MODULATIONS * config.dim * value_bytes
    block = max(_attention(config, tokens, rows, text, value_bytes), _mlp(config, tokens, value_bytes))
    widest = max(config.dim * 3 * config.inner, config.dim * config.hidden)
    opening = tokens * config.dim * value_bytes + config.dim**2 * MODULATIONS * widening.bytes
    return held + max(opening, block + widest * widening.bytes)


def _attention(config: DitConfig, tokens: int, rows: int, text: int, value_bytes: int) -> int:
    """Its input, and that before modulation; then the most of three moments: a head's rotation, packing, answers."""
    wide = 0 if value_bytes == SINGLE else SINGLE  # a copy in float32, where the tokens are not already
    dim, inner = tokens * config.dim * value_bytes, tokens * config.inner
    heads = inner * value_bytes
    packed = rows * config.inner * value_bytes
    angles = tokens * config.head_dim // PAIRS[config.rope] * SINGLE // 2 * 3
    turning = 4 * heads + inner * (wide + 2 * SINGLE)
    packing = 5 * heads + 3 * packed + heads
    answers = 3 * heads + 5 * packed
    leaving = 3 * heads + 4 * packed + heads + dim
    return 2 * dim + angles + max(turning, packing, answers, leaving)


def _mlp(config: DitConfig, tokens: int, value_bytes: int) -> int:
    """The block's input, what attention changed and what came of it, the MLP's input; and its inner products."""
    dim, hidden = tokens * config.dim * value_bytes, tokens * config.hidden * value_bytes
    entering = 2 * SINGLE * tokens * config.dim + (0 if value_bytes == SINGLE else dim)
    return 3 * dim + max(entering, dim + (3 if config.mlp == "swiglu" else 2) * hidden)
