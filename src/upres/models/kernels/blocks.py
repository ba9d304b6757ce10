"""Attention over chosen blocks of keys, block-sparse and exact. Knows nothing of how they were chosen.

Its twin, which computes every score and drops the unwanted ones, is models/flashvsr/sparse_attention.py: masked.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.metadata import version

import torch
from torch import Tensor

BLOCK = 128  # queries, and keys
HOPPER_DIM = 128  # of a head


@dataclass(frozen=True, slots=True)
class Tuning:
    keys: int  # at a time; divides a block
    warps: int
    stages: int  # of loads under way


HOPPER = Tuning(keys=128, warps=8, stages=3)
AMPERE = Tuning(keys=64, warps=8, stages=2)


def attend_in_lists(q: Tensor, k: Tensor, v: Tensor, numbers: Tensor, counts: Tensor) -> Tensor:
    """q: (queries, heads, head_dim); k, v: (keys, heads, head_dim), multiples of 128; lists as of `key_lists`.

    A block of queries that may see nothing gives zeros. Only chosen blocks are read.
    """
    if suits_hopper(q, q.shape[-1]):
        from upres.models.kernels.fused.hopper_blocks import attend_in_blocks as hopper

        return hopper(q, k, v, numbers, counts)
    from upres.models.kernels.fused.blocks import attend_in_blocks as kernel

    return kernel(q, k, v, numbers, counts)


def suits_hopper(x: Tensor, head_dim: int) -> bool:
    """Its kernels are written for one generation of GPUs, in a language that changes with Triton's versions."""
    suits = x.is_cuda and x.element_size() == 2 and head_dim == HOPPER_DIM
    return suits and _triton_is_3_6() and torch.cuda.get_device_capability(x.device)[0] == 9


@cache
def _triton_is_3_6() -> bool:
    return version("triton").startswith("3.6.")


def key_lists(mask: Tensor) -> tuple[Tensor, Tensor]:
    """For each head and block of queries the numbers of its key blocks, ascending, and how many they are; int32.

    Nothing is read back from the device: what follows the numbers that count is any block's number.
    """
    numbers = mask.to(torch.int8).argsort(dim=-1, descending=True, stable=True).int()
    return numbers, mask.sum(dim=-1, dtype=torch.int32)
