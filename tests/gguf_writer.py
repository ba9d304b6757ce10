"""Writes GGUF for tests, by the letter of the format. Knows nothing of how Upres reads it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

F32, F16, Q8_0, Q4_K, BF16 = 0, 1, 8, 12, 30
BYTES_AND_VALUES = {F32: (4, 1), F16: (2, 1), BF16: (2, 1), Q8_0: (34, 32), Q4_K: (144, 256)}
INT32, STRING, ARRAY = 5, 8, 9
ALIGNMENT = 32


def write_gguf(
    path: Path,
    entries: dict[str, tuple[int, Sequence[int], bytes]],  # name -> type, shape (slowest axis first), bytes
    *,
    original_shapes: dict[str, Sequence[int]] | None = None,
) -> Path:
    shapes = original_shapes if original_shapes is not None else {}
    header = b"GGUF" + struct.pack("<IQQ", 3, len(entries), 1 + len(shapes))
    header += text("general.architecture") + struct.pack("<I", STRING) + text("seedvr2")
    for name, shape in shapes.items():
        header += text(f"comfy.gguf.orig_shape.{name}") + struct.pack("<IIQ", ARRAY, INT32, len(shape))
        header += struct.pack(f"<{len(shape)}i", *shape)
    body = b""
    for name, (kind, shape, raw) in entries.items():
        header += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), kind, len(body))
        body += padded(raw)
    path.write_bytes(padded(header) + body)
    return path


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def padded(raw: bytes) -> bytes:
    return raw + bytes(-len(raw) % ALIGNMENT)


def plain(tensor: Tensor) -> tuple[int, Sequence[int], bytes]:
    kind = {torch.float32: F32, torch.float16: F16, torch.bfloat16: BF16}[tensor.dtype]
    return kind, tensor.shape, tensor.contiguous().view(torch.uint8).numpy().tobytes()


def q8_0(tensor: Tensor) -> tuple[int, Sequence[int], bytes]:
    """Quantised as ggml does: one scale for 32 values, the largest at 127."""
    rows = tensor.reshape(-1, 32)
    scale = (rows.abs().amax(1, keepdim=True) / 127).half()
    quants = (rows / scale.float().clamp(min=1e-12)).round().clamp(-127, 127).to(torch.int8)
    raw = torch.cat((scale.view(torch.uint8), quants.view(torch.uint8)), dim=1)
    return Q8_0, tensor.shape, raw.numpy().tobytes()
