"""Says what a weights file is, and turns the text embedding's pickle into safetensors: a process for one file.

    python -m upres.models.seedvr2.files identify FILE
    python -m upres.models.seedvr2.files convert FILE.pt OUT.safetensors

It ends with exit status 0 and one line of JSON, {"part", "precision"}, or with 1 and {"message", "remedy"}. Whoever
wants to know has no torch, and a pickle is better opened where nothing else lives. Knows nothing of catalogues.
"""

from __future__ import annotations

import argparse
import json
import math
import pickle
import sys
import zipfile
from collections import Counter
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from upres.errors import UpresError, WeightsInvalid
from upres.models.seedvr2.checkpoint import TEXT_KEY, Kind, dit_config, recognise, vae_config
from upres.models.seedvr2.dit import Dit
from upres.models.seedvr2.vae import VideoVae
from upres.models.weights.assign import compare
from upres.models.weights.containers import open_weights
from upres.models.weights.file import WeightsFile

PARTS = {Kind.DIT_3B: "3b", Kind.DIT_7B: "7b", Kind.VAE: "vae", Kind.TEXT: "text"}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m upres.models.seedvr2.files")
    parser.add_argument("verb", choices=("identify", "convert"))
    parser.add_argument("paths", nargs="+", type=Path)
    options = parser.parse_args()
    try:
        if options.verb == "convert":
            convert(*options.paths)
        answer, status = identify(options.paths[-1]), 0
    except UpresError as error:
        answer, status = {"message": error.message, "remedy": error.remedy}, 1
    sys.stdout.write(json.dumps(answer) + "\n")
    return status


def identify(path: Path) -> dict[str, str]:
    """Every key and shape is held against the model's; weights are not read. Raises WeightsInvalid, FileMissing."""
    if _is_pickle(path):
        _embedding(path)
        return {"part": PARTS[Kind.TEXT], "precision": "pickle"}
    file = open_weights(path)
    kind = recognise(file.shapes)
    if kind is None:
        raise WeightsInvalid(
            f"{path.name}: none of SeedVR2's files: {len(file.shapes)} keys, first {next(iter(file.shapes), 'none')}",
            remedy="give one that `upres download` lists",
        )
    compare(file, _wanted(kind, file))
    return {"part": PARTS[kind], "precision": _main_type(file)}


def convert(source: Path, output: Path) -> None:
    save_file({TEXT_KEY: _embedding(source)}, output)


def _wanted(kind: Kind, file: WeightsFile) -> dict[str, tuple[int, ...]]:
    if kind == Kind.TEXT:
        return dict(file.shapes)
    with torch.device("meta"):
        model = VideoVae(vae_config(file.shapes)) if kind == Kind.VAE else Dit(dit_config(file.shapes, kind))
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _main_type(file: WeightsFile) -> str:
    """What most of the values are stored in."""
    values: Counter[str] = Counter()
    for name, shape in file.shapes.items():
        values[file.types[name]] += math.prod(shape)
    return values.most_common(1)[0][0]


def _is_pickle(path: Path) -> bool:
    return path.is_file() and zipfile.is_zipfile(path)


def _embedding(path: Path) -> Tensor:
    """Nothing in the file is executed: anything but tensors is refused by torch."""
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise WeightsInvalid(f"{path.name}: no pickle of a tensor ({str(error).splitlines()[0]})",
                             remedy="download it again") from error  # fmt: skip
    if not isinstance(held, Tensor) or held.ndim != 2 or not held.is_floating_point():
        what = tuple(held.shape) if isinstance(held, Tensor) else type(held).__name__
        raise WeightsInvalid(
            f"{path.name}: a pickle of {what}, not of a text embedding",
            remedy="of pickles only pos_emb.pt is taken; give other weights as safetensors",
        )
    return held.contiguous()


if __name__ == "__main__":
    sys.exit(main())
