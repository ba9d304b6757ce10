"""Says what a weights file is, and turns pickles and files of several parts into safetensors: a process for one file.

    python -m upres.models.files identify FILE
    python -m upres.models.files convert FILE PART OUT.safetensors [PART OUT.safetensors ...]

It ends with exit status 0 and one line of JSON, {"parts", "precision", "ours"}, or with 1 and {"message", "remedy"}.
`ours` says that the file can be used as it is. Whoever wants to know has no torch, and a pickle is better opened where
nothing else lives. `-` is the only part that there is. Knows nothing of catalogues.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from upres.errors import FileMissing, UpresError, WeightsInvalid
from upres.models.flashvsr import checkpoint as flashvsr
from upres.models.seedvr2 import checkpoint as seedvr2
from upres.models.seedvr2.dit import Dit
from upres.models.seedvr2.vae import VideoVae
from upres.models.weights.assign import compare
from upres.models.weights.containers import open_weights
from upres.models.weights.file import WeightsFile
from upres.models.weights.pickled import ALONE, PickledFile, is_pickle

SEEDVR2 = {seedvr2.Kind.DIT_3B: "3b", seedvr2.Kind.DIT_7B: "7b", seedvr2.Kind.VAE: "vae", seedvr2.Kind.TEXT: "text"}
FLASHVSR = {flashvsr.Kind.DIT: "dit", flashvsr.Kind.LQ: "lq_proj", flashvsr.Kind.TINY: "tcdecoder",
            flashvsr.Kind.WAN: "wan_vae", flashvsr.Kind.PROMPT: "prompt"}  # fmt: skip
FLASHVSR_KINDS = {part: kind for kind, part in FLASHVSR.items()}
ONLY = "-"
PROMPT_COLUMNS = 4096  # of FlashVSR's prompt; SeedVR2's text embedding has 5120


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m upres.models.files")
    parser.add_argument("verb", choices=("identify", "convert"))
    parser.add_argument("path", type=Path)
    parser.add_argument("outputs", nargs="*", metavar="PART OUT")
    options = parser.parse_args()
    try:
        for part, output in zip(options.outputs[::2], options.outputs[1::2], strict=True):
            convert(options.path, Path(output), part if part != ONLY else None)
        answer, status = identify(options.path), 0
    except UpresError as error:
        answer, status = {"message": error.message, "remedy": error.remedy}, 1
    sys.stdout.write(json.dumps(answer) + "\n")
    return status


def identify(path: Path) -> dict[str, Any]:
    """Every key and shape is held against the model's; weights are not read. Raises WeightsInvalid, FileMissing."""
    file, pickled = _open(path)
    kind = seedvr2.recognise(file.shapes)
    if kind is not None:
        if pickled and kind != seedvr2.Kind.TEXT:
            raise WeightsInvalid(f"{path.name}: a pickle of a {kind}", remedy="give it as safetensors or GGUF")
        compare(file, _wanted(kind, file))
        parts = [SEEDVR2[kind]]
    else:
        parts = _flashvsr_parts(file)
    if not parts:
        raise WeightsInvalid(
            f"{path.name}: none of SeedVR2's or FlashVSR's files: {len(file.shapes)} keys, "
            f"first {next(iter(file.shapes), 'none')}", remedy="give one that `upres download` lists",
        )  # fmt: skip
    return {"parts": parts, "precision": _main_type(file), "ours": not pickled and len(parts) == 1}


def convert(source: Path, output: Path, part: str | None) -> None:
    """One part of the file, the only one if none is named, under the names that we have."""
    file, _ = _open(source)
    if seedvr2.recognise(file.shapes) == seedvr2.Kind.TEXT:
        save_file(_contiguous(dict(file.tensors())), output)
        return
    found = _flashvsr_parts(file)
    wanted = part if part is not None else next(iter(found), None)
    if wanted not in found:
        raise WeightsInvalid(f"{source.name}: holds {', '.join(found) or 'nothing'} of FlashVSR",
                             remedy="download it again")  # fmt: skip
    save_file(_contiguous(dict(flashvsr.Part(file, FLASHVSR_KINDS[wanted]).tensors())), output)


def _open(path: Path) -> tuple[WeightsFile, bool]:
    """And whether it is a pickle. A lone tensor gets the name of the only two that there are."""
    if not path.is_file():
        raise FileMissing(f"{path}: no such weights file", remedy="give the path of a weights file")
    if not is_pickle(path):
        return open_weights(path), False
    file = PickledFile(path)
    if list(file.shapes) == [ALONE]:
        shape = file.shapes[ALONE]
        prompt = len(shape) == 3 or (len(shape) == 2 and shape[1] == PROMPT_COLUMNS)
        file.rename(ALONE, flashvsr.PROMPT_KEY if prompt else seedvr2.TEXT_KEY)
    return file, True


def _flashvsr_parts(file: WeightsFile) -> list[str]:
    """Those whose every key and shape is right; one that is wrong raises."""
    parts = list(flashvsr.find_parts(file.shapes))
    for kind in parts:
        part = flashvsr.Part(file, kind)
        if kind == flashvsr.Kind.PROMPT:
            flashvsr.check_prompt(part)
            continue
        with torch.device("meta"):
            compare(part, _shapes(flashvsr.empty_model(kind, part.shapes)))
    return [FLASHVSR[kind] for kind in parts]


def _wanted(kind: seedvr2.Kind, file: WeightsFile) -> dict[str, tuple[int, ...]]:
    if kind == seedvr2.Kind.TEXT:
        return dict(file.shapes)
    with torch.device("meta"):
        return _shapes(VideoVae(seedvr2.vae_config(file.shapes)) if kind == seedvr2.Kind.VAE
                       else Dit(seedvr2.dit_config(file.shapes, kind)))  # fmt: skip


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _main_type(file: WeightsFile) -> str:
    """What most of the values are stored in."""
    values: Counter[str] = Counter()
    for name, shape in file.shapes.items():
        values[file.types[name]] += math.prod(shape)
    return values.most_common(1)[0][0]


def _contiguous(tensors: dict[str, Any]) -> dict[str, Tensor]:
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


if __name__ == "__main__":
    sys.exit(main())
