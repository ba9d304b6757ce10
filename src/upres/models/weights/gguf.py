"""Reads GGUF: a header of values and tensor infos, then aligned tensors (ggml-org/ggml, docs/gguf.md).

A file of one diffusion model needs no more than this, so we do not carry the gguf package and what it depends on.
Knows nothing of any model.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import torch
from torch import Tensor

from upres.errors import WeightsInvalid
from upres.models.weights.file import Packed
from upres.models.weights.quantised import Q4_K, Q5_K, Q6_K, Q8_0, BlockType, Quantised

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
PLAIN_TYPES = {0: torch.float32, 1: torch.float16, 30: torch.bfloat16}
PLAIN_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
BLOCK_TYPES = {8: Q8_0, 12: Q4_K, 13: Q5_K, 14: Q6_K}
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9

# ComfyUI-GGUF's converter writes these: a prefix of all names, and the shape of tensors that it had to reshape.
PREFIX = "model.diffusion_model."
SHAPE_KEY = "comfy.gguf.orig_shape."


@dataclass(frozen=True, slots=True)
class TensorInfo:
    shape: tuple[int, ...]
    type: torch.dtype | BlockType
    offset: int  # from the file's start

    @property
    def type_name(self) -> str:
        return self.type.name if isinstance(self.type, BlockType) else PLAIN_NAMES[self.type]

    @property
    def bytes(self) -> int:
        values = math.prod(self.shape)
        if isinstance(self.type, BlockType):
            return values // self.type.values * self.type.bytes
        return values * self.type.itemsize


class GgufFile:
    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as stream:
            self._infos = _tensor_infos(_Header(stream, path))
        self.shapes = {name: info.shape for name, info in self._infos.items()}
        self.types = {name: info.type_name for name, info in self._infos.items()}

    def tensors(self) -> Iterator[tuple[str, Tensor | Packed]]:
        with self.path.open("rb") as stream:
            for name, info in self._infos.items():
                yield name, _read(stream, info)


def _read(stream: BufferedReader, info: TensorInfo) -> Tensor | Packed:
    memory = bytearray(info.bytes)
    stream.seek(info.offset)
    stream.readinto(memory)
    raw = torch.frombuffer(memory, dtype=torch.uint8)
    if isinstance(info.type, BlockType):
        return Packed(raw.view(-1, info.type.bytes), Quantised(info.type, info.shape))
    return raw.view(info.type).view(info.shape)


class _Header:
    """Reads little-endian values one after the other; a file that ends too early is invalid."""

    def __init__(self, stream: BufferedReader, path: Path) -> None:
        self.stream, self.path, self.file_bytes = stream, path, path.stat().st_size

    def invalid(self, what: str) -> WeightsInvalid:
        return WeightsInvalid(f"{self.path.name}: {what}", remedy="download it again")

    def take(self, count: int) -> bytes:
        if count > self.file_bytes - self.stream.tell():
            raise self.invalid(f"ends within its header, after {self.file_bytes} bytes")
        return self.stream.read(count)

    def number(self, code: str) -> int:
        return int(struct.unpack(f"<{code}", self.take(struct.calcsize(code)))[0])

    def string(self) -> str:
        return self.take(self.number("Q")).decode("utf-8", errors="replace")

    def value(self, kind: int) -> object:
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            item, count = self.number("I"), self.number("Q")
            return [self.value(item) for _ in range(count)]
        if kind not in SCALARS:
            raise self.invalid(f"unknown kind of value {kind}")
        return struct.unpack(f"<{SCALARS[kind]}", self.take(struct.calcsize(SCALARS[kind])))[0]


def _tensor_infos(header: _Header) -> dict[str, TensorInfo]:
    magic, version = header.take(4), header.number("I")
    if magic != MAGIC or version not in VERSIONS:
        raise header.invalid(f"GGUF version {version}, we read {VERSIONS}")
    tensor_count, value_count = header.number("Q"), header.number("Q")
    values = {header.string(): header.value(header.number("I")) for _ in range(value_count)}
    relative = dict(_tensor_info(header, values) for _ in range(tensor_count))

    alignment = values.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1:
        raise header.invalid(f"alignment {alignment}")
    start = -(-header.stream.tell() // alignment) * alignment
    infos = {}
    for name, info in relative.items():
        infos[name.removeprefix(PREFIX)] = placed = TensorInfo(info.shape, info.type, start + info.offset)
        if placed.offset + placed.bytes > header.file_bytes:
            raise header.invalid(f"ends before {name} does, after {header.file_bytes} bytes")
    return infos


def _tensor_info(header: _Header, values: Mapping[str, object]) -> tuple[str, TensorInfo]:
    name = header.string()
    stored = tuple(header.number("Q") for _ in range(header.number("I")))[::-1]  # GGUF lists the fastest axis first
    code, offset = header.number("I"), header.number("Q")
    if code not in PLAIN_TYPES and code not in BLOCK_TYPES:
        known = ", ".join(block.name for block in BLOCK_TYPES.values())
        raise header.invalid(f"{name} is of type {code}; we read F32, F16, BF16, {known}")
    kind = PLAIN_TYPES[code] if code in PLAIN_TYPES else BLOCK_TYPES[code]
    logical = values.get(SHAPE_KEY + name)
    shape = tuple(logical) if isinstance(logical, list) else stored
    if math.prod(shape) != math.prod(stored) or (isinstance(kind, BlockType) and math.prod(stored) % kind.values):
        raise header.invalid(f"{name} cannot have the shape {shape}, stored as {stored}")
    return name, TensorInfo(shape, kind, offset)
