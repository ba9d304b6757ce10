"""Attention between chosen windows without fused kernels (models/kernels/blocks.py). Knows nothing of the choice.

On CUDA torch's FlexAttention, compiled at the first use of a size, reads the chosen blocks only. Elsewhere, and where
nothing can be compiled, every score is computed and the unwanted ones are dropped: the same result, slowly.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from functools import cache, lru_cache
from importlib.util import find_spec

import torch
from einops import rearrange
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from upres.models.flashvsr.windows import TOKENS

# q: (queries, heads, head_dim); k, v: (keys, heads, head_dim); mask: (heads, queries / 128, keys / 128), bool.
Kernel = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
SIZES_KEPT = 32  # compiled kernels

log = logging.getLogger(__name__)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Exact softmax attention over the blocks of 128 keys that `mask` allows, scale 1/sqrt(head_dim).

    A block of queries that may see nothing gives zeros. -> (queries, heads, head_dim)
    """
    return (flex if q.is_cuda and can_compile() else masked)(q, k, v, mask)


def masked(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """One block of queries after the other, all heads at once: memory grows with the keys only."""
    blocks = rearrange(q, "(n s) h d -> n h s d", s=TOKENS) * q.shape[-1] ** -0.5
    keys, values = rearrange(k, "k h d -> h d k"), rearrange(v, "k h d -> h k d")
    out = torch.empty_like(blocks)
    for number, block in enumerate(blocks):
        seen = mask[:, number].repeat_interleave(TOKENS, dim=-1)[:, None]
        weights = (block @ keys).float().masked_fill_(~seen, -torch.inf).softmax(dim=-1)
        weights = torch.where(seen.any(dim=-1, keepdim=True), weights, 0)
        out[number] = weights.to(v.dtype) @ values
    return rearrange(out, "n h s d -> (n s) h d")


def flex(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    blocks = block_mask(mask)
    kernel = _compiled(q.device, q.dtype, q.shape, k.shape)
    out: Tensor = kernel(*(rearrange(x, "s h d -> 1 h s d") for x in (q, k, v)), blocks)
    return rearrange(out, "1 h s d -> s h d")


def block_mask(mask: Tensor) -> BlockMask:
    """Every allowed block is allowed whole; nothing is read back from the device."""
    counts = mask.sum(dim=-1, dtype=torch.int32)[None]
    numbers = mask.to(torch.int32).argsort(dim=-1, descending=True, stable=True).to(torch.int32)[None]
    lengths = (mask.shape[1] * TOKENS, mask.shape[2] * TOKENS)
    none = torch.zeros_like(counts), torch.zeros_like(numbers)  # tensors of their own: the compiler confuses equal ones
    return BlockMask.from_kv_blocks(*none, counts, numbers, BLOCK_SIZE=TOKENS, seq_lengths=lengths,
                                    compute_q_blocks=False)  # fmt: skip


@lru_cache(maxsize=SIZES_KEPT)
def _compiled(*size: object) -> Callable[..., Tensor]:
    """FlexAttention for one size, as a function of its own.

    torch counts how often it compiled a function and, at the eighth size, would give up and fall back to a dense
    kernel without a word; `fullgraph` makes that an error, and a code object of its own starts each count at zero.
    """

    def attention(q: Tensor, k: Tensor, v: Tensor, blocks: BlockMask) -> Tensor:
        out = flex_attention(q, k, v, block_mask=blocks)
        assert isinstance(out, Tensor)
        return out

    attention.__code__ = attention.__code__.replace(co_name=f"attention_{abs(hash(size))}")
    return torch.compile(attention, dynamic=False, fullgraph=True)


@cache
def can_compile() -> bool:
    """Triton makes its launchers with the system's C compiler."""
    compiler = os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), None)
    able = find_spec("triton") is not None and compiler is not None
    if not able:
        log.warning("FlashVSR: no triton or no C compiler here; its attention runs without its fast kernel")
    return able
