"""Asks a process that has torch about a weights file. Knows that process only as the name of its module."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from upres.errors import WeightsInvalid

MODULE = "upres.models.seedvr2.files"


def identify(path: Path) -> tuple[str, str]:
    """(part, precision): see that module. Raises WeightsInvalid."""
    return _ask("identify", path)


def convert(source: Path, output: Path) -> tuple[str, str]:
    """The text embedding's pickle to safetensors. Raises WeightsInvalid."""
    return _ask("convert", source, output)


def _ask(verb: str, *paths: Path) -> tuple[str, str]:
    package_root = str(Path(__file__).parents[2])  # this very package, also where it is not installed
    search_path = os.pathsep.join(filter(None, (package_root, os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": search_path}
    command = [sys.executable, "-P", "-m", MODULE, verb, *(str(path.absolute()) for path in paths)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False,
                         stdin=subprocess.DEVNULL)  # fmt: skip
    try:
        answer = json.loads(run.stdout)
    except ValueError as error:
        last = run.stderr.strip().rpartition("\n")[2]
        raise WeightsInvalid(f"{paths[0].name} stopped the process that read it: {last}",
                             remedy="run `upres doctor`") from error  # fmt: skip
    if run.returncode:
        raise WeightsInvalid(answer["message"], remedy=answer["remedy"])
    return answer["part"], answer["precision"]
