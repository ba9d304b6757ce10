"""GGUF's quantised blocks in torch: Q8_0, and the Q4_K, Q5_K and Q6_K that a Q4_K_M file mixes.

We need four block layouts, not a runtime. Layouts: ggml-org/ggml, src/ggml-common.h (block_q8_0, block_q4_K …).
Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor


@dataclass(frozen=True, slots=True)
class BlockType:
    name: str
    values: int  # of one block
    bytes: int
    unpack: Callable[[Tensor, torch.dtype], Tensor]  # (blocks, bytes) uint8, type of the arithmetic -> (blocks, values)


@dataclass(frozen=True, slots=True)
class Quantised:
    """How to read a tensor's packed bytes, (blocks, bytes) uint8."""

    block: BlockType
    shape: tuple[int, ...]

    def unpack(self, packed: Tensor, dtype: torch.dtype) -> Tensor:
        """Half types are unpacked in half arithmetic, as the files' publishers run them."""
        arithmetic = torch.float32 if dtype == torch.float32 else torch.float16
        return self.block.unpack(packed, arithmetic).view(self.shape).to(dtype)


def _q8_0(blocks: Tensor, dtype: torch.dtype) -> Tensor:
    """scale f16 | 32 x int8."""
    scale, quants = torch.split(blocks, [2, 32], dim=1)
    return _half(scale, dtype) * quants.view(torch.int8).to(dtype)


def _q4_k(blocks: Tensor, dtype: torch.dtype) -> Tensor:
    """scale f16 | least f16 | 12 bytes of scales and offsets | 256 x 4 bits. Eight sub-blocks of 32."""
    scale, least, fine, low = torch.split(blocks, [2, 2, 12, 128], dim=1)
    return _scaled_and_offset(scale, least, fine, _nibbles(low), dtype)


def _q5_k(blocks: Tensor, dtype: torch.dtype) -> Tensor:
    """As Q4_K, with a fifth bit: bit j of byte i belongs to value i of sub-block j."""
    scale, least, fine, high, low = torch.split(blocks, [2, 2, 12, 32, 128], dim=1)
    fifth = (high[:, None, :] >> _shifts(8, 1, blocks)) & 1
    return _scaled_and_offset(scale, least, fine, _nibbles(low) | (fifth << 4), dtype)


def _q6_k(blocks: Tensor, dtype: torch.dtype) -> Tensor:
    """256 x low 4 bits | 256 x high 2 bits | 16 x int8 | scale f16. Sixteen sub-blocks of 16, in two halves."""
    low, high, fine, scale = torch.split(blocks, [128, 64, 16, 2], dim=1)
    low = rearrange(low, "n (half lane) -> (n half) lane", half=2)
    high = rearrange(high, "n (half lane) -> (n half) lane", half=2)
    four = rearrange(
        torch.stack((low & 15, low >> 4), dim=1), "m nibble (group lane) -> m (nibble group) lane", group=2
    )
    two = (high[:, None, :] >> _shifts(4, 2, blocks)) & 3
    quants = (four | (two << 4)).view(torch.int8) - 32
    sub_scales = _half(scale, dtype) * fine.view(torch.int8).to(dtype)
    quants = rearrange(quants, "(n half) quarter (sub lane) -> n (half quarter sub) lane", half=2, sub=2)
    return rearrange(sub_scales[:, :, None] * quants.to(dtype), "n sub lane -> n (sub lane)")


def _scaled_and_offset(scale: Tensor, least: Tensor, fine: Tensor, quants: Tensor, dtype: torch.dtype) -> Tensor:
    """quants: n, 8 sub-blocks, 32. The 6-bit scales and offsets: four of each lie whole in bytes 0-7, the others have
    their low bits in bytes 8-11 and their high bits in the two spare bits of bytes 0-7."""
    first, second, rest = torch.split(fine, 4, dim=1)
    scales = torch.cat((first & 63, (rest & 15) | ((first >> 6) << 4)), dim=1).to(dtype)
    offsets = torch.cat((second & 63, (rest >> 4) | ((second >> 6) << 4)), dim=1).to(dtype)
    scaled = (_half(scale, dtype) * scales)[:, :, None] * quants.to(dtype)
    return rearrange(scaled - (_half(least, dtype) * offsets)[:, :, None], "n sub lane -> n (sub lane)")


def _nibbles(low: Tensor) -> Tensor:
    """Each 32 bytes hold two sub-blocks: low nibbles, then high nibbles."""
    low = rearrange(low, "n (pair lane) -> n pair 1 lane", lane=32)
    return rearrange(low >> _shifts(2, 4, low), "n pair nibble lane -> n (pair nibble) lane") & 15


def _shifts(count: int, step: int, like: Tensor) -> Tensor:
    return torch.arange(0, count * step, step, dtype=torch.uint8, device=like.device)[:, None]


def _half(pair: Tensor, dtype: torch.dtype) -> Tensor:
    return pair.contiguous().view(torch.float16).to(dtype)


Q8_0 = BlockType("Q8_0", values=32, bytes=34, unpack=_q8_0)
Q4_K = BlockType("Q4_K", values=256, bytes=144, unpack=_q4_k)
Q5_K = BlockType("Q5_K", values=256, bytes=176, unpack=_q5_k)
Q6_K = BlockType("Q6_K", values=256, bytes=210, unpack=_q6_k)
