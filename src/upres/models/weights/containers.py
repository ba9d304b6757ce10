"""Opens a weights file by what its first bytes say it is, never by its name. Knows nothing of any model."""

from __future__ import annotations

from pathlib import Path

from upres.errors import FileMissing, WeightsInvalid
from upres.models.weights.file import WeightsFile
from upres.models.weights.gguf import MAGIC, GgufFile
from upres.models.weights.safetensors import SafetensorsFile


def open_weights(path: Path) -> WeightsFile:
    try:
        with path.open("rb") as stream:
            head = stream.read(9)
    except FileNotFoundError:
        raise FileMissing(f"{path}: no such weights file", remedy="download the model") from None
    if head[:4] == MAGIC:
        return GgufFile(path)
    if head[8:9] == b"{":  # the length of a JSON header, then the header
        return SafetensorsFile(path)
    raise WeightsInvalid(
        f"{path.name}: neither safetensors nor GGUF, it begins with {head[:4]!r}",
        remedy="convert it to safetensors" if head[:2] == b"PK" else "download it again",
    )
