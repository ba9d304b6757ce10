"""Reads a compact weights file, or says exactly why it is none. Knows nothing of frames or devices' speed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from upres.errors import WeightsInvalid
from upres.models.compact.net import CompactConfig, CompactNet

HEAD = "head.weight"  # its first axis is the number of channels
BODY = "body."  # body.<pair>.<first|second>.<weight|bias>
NAMES_SHOWN = 3
REMEDY = "restore it from the distribution; weights/README.md gives its size and sha256"


def read(path: Path) -> CompactNet:
    """A float32 network on the CPU. The file's tensors are read one after another, never all at once.

    Raises WeightsInvalid unless the file holds exactly the keys and shapes of one configuration, all finite.
    """
    try:
        with safe_open(path, framework="pt") as file:
            names: list[str] = file.keys()
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
            with torch.device("meta"):
                net = CompactNet(recognise(path.name, shapes))
            _compare(path.name, shapes, {key: tuple(value.shape) for key, value in net.state_dict().items()})
            net.to_empty(device="cpu")
            for key, parameter in net.state_dict().items():
                value = file.get_tensor(key)
                if not value.is_floating_point() or not bool(torch.isfinite(value).all()):
                    raise WeightsInvalid(f"{path.name}: {key} is not all finite numbers", remedy=REMEDY)
                parameter.copy_(value)
    except (OSError, SafetensorError) as error:
        raise WeightsInvalid(f"{path.name}: not a readable safetensors file ({error})", remedy=REMEDY) from error
    return net.eval().requires_grad_(False)


def recognise(name: str, shapes: dict[str, tuple[int, ...]]) -> CompactConfig:
    """The configuration a file was trained with, read off its shapes. `name` is for the message only."""
    head = shapes.get(HEAD, ())
    pairs = {key.split(".")[1] for key in shapes if key.startswith(BODY)}
    if len(head) != 4 or head[0] < 1 or not pairs:
        raise WeightsInvalid(
            f"{name}: not a compact network: {HEAD} has shape {list(head)}, {len(pairs)} pairs under {BODY}",
            remedy=REMEDY,
        )
    return CompactConfig(channels=head[0], depth=2 * len(pairs))


def _compare(name: str, found: dict[str, tuple[int, ...]], wanted: dict[str, tuple[int, ...]]) -> None:
    missing = wanted.keys() - found.keys()
    unknown = found.keys() - wanted.keys()
    misshapen = {key for key in wanted.keys() & found.keys() if wanted[key] != found[key]}
    faults = [
        f"{len(keys)} {what} keys, first {_first(keys)}"
        for what, keys in (("missing", missing), ("unknown", unknown))
        if keys
    ]
    if misshapen:
        key = min(misshapen)
        faults.append(f"{len(misshapen)} wrong shapes, first {key} {list(found[key])} instead of {list(wanted[key])}")
    if faults:
        raise WeightsInvalid(f"{name}: {'; '.join(faults)}", remedy=REMEDY)


def _first(keys: Iterable[str]) -> str:
    return ", ".join(sorted(keys)[:NAMES_SHOWN])
