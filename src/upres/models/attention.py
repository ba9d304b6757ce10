"""Attention over packed sequences, the one place where a kernel is chosen. Knows nothing of windows or of any model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from itertools import accumulate, groupby

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from upres.errors import InvalidSetting
from upres.models.kernels.softmax import softmax

# q, k, v: (rows, heads, head_dim), the sequences one after the other; lengths of the sequences, adding up to rows.
Kernel = Callable[[Tensor, Tensor, Tensor, Sequence[int]], Tensor]
# cuDNN's takes 0.6 of flash's time on an H100 at windows of 463 to 1273 rows; the others are for what it refuses
FASTEST_FIRST = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION,
                 SDPBackend.MATH]  # fmt: skip
SCORES_AT_ONCE = 2**27  # 512 MB in float32
HALVES = (torch.float16, torch.bfloat16)
PACKAGES = {"flash": ("flash_attn", "flash_attn_varlen_func"), "sage": ("sageattention", "sageattn_varlen")}


def attend(q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int]) -> Tensor:
    """Full softmax attention inside each sequence, scale 1/sqrt(head_dim); rows stay where they are.

    A kernel for variable lengths takes the rows as they are. Ours calls SDPA once for each run of equal lengths, so
    whoever packs the rows does well to sort the sequences by length.
    """
    if sum(lengths) != q.shape[0]:
        raise ValueError(f"sequences of {sum(lengths)} rows in all, but {q.shape[0]} rows")
    if q.is_cuda:
        with sdpa_kernel(FASTEST_FIRST, set_priority=True):
            return KERNEL(q, k, v, lengths)
    return KERNEL(q, k, v, lengths)


def sdpa_by_length(q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int]) -> Tensor:
    out, start = [], 0
    for length, run in groupby(lengths):
        count = sum(1 for _ in run)
        rows = slice(start, start + length * count)
        batch_q, batch_k, batch_v = (rearrange(x[rows], "(b s) h d -> b h s d", b=count) for x in (q, k, v))
        answers = F.scaled_dot_product_attention(batch_q, batch_k, batch_v)
        out.append(rearrange(answers, "b h s d -> (b s) h d"))
        start = rows.stop
    return out[0] if len(out) == 1 else torch.cat(out)


def packed(call: Callable[..., Tensor]) -> Kernel:
    """A kernel from a function of FlashAttention's form, which takes the rows as they are and where sequences end.

    Such functions run on CUDA, in half precision only: everything else goes the usual way.
    """

    def kernel(q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int]) -> Tensor:
        if not (q.is_cuda and q.dtype in HALVES):
            return sdpa_by_length(q, k, v, lengths)
        return packed_call(call, q, k, v, lengths)

    return kernel


def packed_call(call: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int]) -> Tensor:
    ends = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=q.device)
    return call(q, k, v, ends, ends, max(lengths), max(lengths))


def choose(name: str) -> Kernel:
    """auto: FlashAttention if it is installed, else torch's own; sdpa, flash or sage: that one. SageAttention computes
    with 8-bit integers, so it is never chosen unasked. Written to both packages' interfaces; not run with either yet.

    Raises InvalidSetting if what was asked for is not installed.
    """
    if name == "sdpa" or (name == "auto" and find_spec("flash_attn") is None):
        return sdpa_by_length
    module, function = PACKAGES["flash" if name == "auto" else name]
    if find_spec(module) is None:
        raise InvalidSetting(f"attention {name!r} needs the package {module}", remedy="install it, or choose auto")
    return packed(getattr(import_module(module), function))


def use(name: str) -> None:
    """From now on, in this process. See `choose`."""
    global KERNEL
    KERNEL = choose(name)


KERNEL: Kernel = sdpa_by_length


def attend_in_frames(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Each row of a frame attends to all rows of it, one wide head: frames, rows, dim.

    On CUDA as products of matrices: at 512 wide and 32,640 rows SDPA has only a kernel that takes three times as long.
    """
    if q.is_cuda:
        return by_products(q, k, v)
    return F.scaled_dot_product_attention(q, k, v)


def by_products(q: Tensor, k: Tensor, v: Tensor, scores_at_once: int = SCORES_AT_ONCE) -> Tensor:
    """Scores and their softmax in float32, so many at a time; the weights are rounded to the type of v."""
    rows = max(1, scores_at_once // k.shape[1])
    out = torch.empty_like(q)
    for queries, keys, values, answers in zip(q, k, v, out, strict=True):
        for some, into in zip(queries.split(rows), answers.split(rows), strict=True):
            weights = softmax(_scores(some, keys.t()), q.shape[-1] ** -0.5, v.dtype)
            torch.mm(weights, values, out=into)
    return out


def _scores(queries: Tensor, keys: Tensor) -> Tensor:
    """Not rounded on the way to float32, where the device can do that."""
    if queries.is_cuda and queries.dtype.itemsize == 2:
        return torch.mm(queries, keys, out_dtype=torch.float32)
    scores = queries @ keys
    return scores.float() if scores.dtype.itemsize < 4 else scores
