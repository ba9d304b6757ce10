"""Random weights of SeedVR2 in every published format, written tensor by tensor. Needs torch and numpy only.

Values are drawn so that activations stay in bounds: matrices with the spread of their fan-in, norms and scales near 1.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

F32, F16, Q8_0, Q4_K, Q6_K = 0, 1, 8, 12, 14  # GGUF's codes
BLOCKS = {F32: (1, 4), F16: (1, 2), Q8_0: (32, 34), Q4_K: (256, 144), Q6_K: (256, 210)}  # values, bytes
ALIGNMENT = 32
SAFETENSORS = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float8_e4m3fn: "F8_E4M3"}


def write(path: Path, network: nn.Module, storage: str, device: torch.device) -> Path:
    """network: on the meta device; storage: fp16, fp8, q8 or q4."""
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    freqs = {name: tensor for name, tensor in network.state_dict().items() if name.endswith(".freqs")}
    generator = torch.Generator(device).manual_seed(1)
    if storage in ("q8", "q4"):
        _write_gguf(path, shapes, storage, generator)
    else:
        narrow = torch.float8_e4m3fn if storage == "fp8" else torch.float16
        types = {name: torch.float16 if name in freqs else narrow for name in shapes}
        write_safetensors(path, shapes, types, lambda name: _values(name, shapes[name], generator))
    return path


def write_safetensors(
    path: Path, shapes: Mapping[str, tuple[int, ...]], types: Mapping[str, torch.dtype], make: Callable[[str], Tensor]
) -> None:
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + types[name].itemsize * torch.Size(shape).numel()
        header[name] = {"dtype": SAFETENSORS[types[name]], "shape": shape, "data_offsets": (start, end)}
    text = json.dumps(header).encode()
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for name in shapes:
            stream.write(_bytes(make(name).to(types[name])))


def _values(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    if name.endswith(".freqs"):
        return torch.linspace(0.1, 1, shape[0], device=generator.device)
    centre = 1.0 if ("norm" in name and name.endswith("weight")) or name.endswith("scale") else 0.0
    return centre + _spread(shape) * torch.randn(shape, generator=generator, device=generator.device)


def _spread(shape: tuple[int, ...]) -> float:
    return torch.Size(shape[1:]).numel() ** -0.5 if len(shape) > 1 else 0.1


def _write_gguf(path: Path, shapes: Mapping[str, tuple[int, ...]], storage: str, generator: torch.Generator) -> None:
    kinds = dict(zip(shapes, _kinds(shapes, storage), strict=True))
    header = b"GGUF" + struct.pack("<IQQ", 3, len(shapes), 1)
    header += _text("general.architecture") + struct.pack("<I", 8) + _text("seedvr2")
    offset = 0
    for name, shape in shapes.items():
        header += _text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), kinds[name], offset)
        values, size = BLOCKS[kinds[name]]
        offset += -(-torch.Size(shape).numel() // values * size // ALIGNMENT) * ALIGNMENT
    with path.open("wb") as stream:
        stream.write(_padded(header))
        for name, shape in shapes.items():
            raw = _gguf_bytes(name, shape, kinds[name], generator)
            stream.write(raw)
            stream.write(bytes(-len(raw) % ALIGNMENT))


def _kinds(shapes: Mapping[str, tuple[int, ...]], storage: str) -> Iterator[int]:
    """As a Q4_K_M file mixes them: about one matrix in ten is stored wider."""
    for number, shape in enumerate(shapes.values()):
        if len(shape) != 2 or shape[1] % 32 or (storage == "q4" and shape[1] % 256):
            yield F16 if len(shape) > 1 else F32
        elif storage == "q8":
            yield Q8_0
        else:
            yield Q6_K if number % 10 == 0 else Q4_K


def _gguf_bytes(name: str, shape: tuple[int, ...], kind: int, generator: torch.Generator) -> memoryview:
    """Blocks of random bits, with the scales that give them the spread of their fan-in."""
    if kind in (F32, F16):
        return _bytes(_values(name, shape, generator).to(torch.float32 if kind == F32 else torch.float16))
    values, _ = BLOCKS[kind]
    count, spread = torch.Size(shape).numel() // values, _spread(shape)
    if kind == Q8_0:  # whole numbers of -128 … 127, spread 74
        parts = [_half(spread / 74, count), _random(32, count, generator)]
    elif kind == Q4_K:  # sub-scales and sub-offsets of 32, numbers of 0 … 15: middle 7.5, spread 4.6
        scale = spread / (32 * 4.6)
        fine = torch.tensor([160] * 8 + [0] * 4, dtype=torch.uint8).expand(count, 12)
        parts = [_half(scale, count), _half(7.5 * scale, count), fine, _random(128, count, generator)]
    else:  # sub-scales of 32, numbers of -32 … 31: spread 18.5
        fine = torch.full((count, 16), 32, dtype=torch.uint8)
        parts = [_random(192, count, generator), fine, _half(spread / (32 * 18.5), count)]
    return _bytes(torch.cat([part.to(generator.device) for part in parts], dim=1))


def _random(size: int, count: int, generator: torch.Generator) -> Tensor:
    return torch.randint(0, 256, (count, size), dtype=torch.uint8, generator=generator, device=generator.device)


def _half(value: float, count: int) -> Tensor:
    return torch.full((count, 1), value, dtype=torch.float16).view(torch.uint8)


def _bytes(tensor: Tensor) -> memoryview:
    return memoryview(tensor.contiguous().view(-1).view(torch.uint8).cpu().numpy())


def _text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def _padded(raw: bytes) -> bytes:
    return raw + bytes(-len(raw) % ALIGNMENT)
