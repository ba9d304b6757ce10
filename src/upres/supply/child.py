"""Asks a process that has torch about a weights file. Knows that process only as the name of its module."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from upres.environment import bare_environment
from upres.errors import WeightsInvalid

MODULE = "upres.models.files"
ONLY = "-"  # the part of a file that has only one


@dataclass(frozen=True, slots=True)
class Identity:
    """See that module."""

    parts: tuple[str, ...]
    precision: str
    ours: bool  # can be used as it is


def identify(path: Path) -> Identity:
    """Raises WeightsInvalid."""
    return _ask("identify", path.absolute())


def convert(source: Path, outputs: Mapping[str, Path]) -> Identity:
    """Parts of a file, a pickle or not, each to a file of safetensors. Raises WeightsInvalid."""
    pairs = ((part, output.absolute()) for part, output in outputs.items())
    return _ask("convert", source.absolute(), *(word for pair in pairs for word in pair))


def _ask(verb: str, *arguments: Path | str) -> Identity:
    package_root = str(Path(__file__).parents[2])  # this very package, also where it is not installed
    search_path = os.pathsep.join(filter(None, (package_root, os.environ.get("PYTHONPATH"))))
    environment = bare_environment(CUDA_VISIBLE_DEVICES="", PYTHONPATH=search_path)
    command = [sys.executable, "-P", "-m", MODULE, verb, *map(str, arguments)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False,
                         stdin=subprocess.DEVNULL)  # fmt: skip
    try:
        answer = json.loads(run.stdout)
    except ValueError as error:
        last = run.stderr.strip().rpartition("\n")[2]
        raise WeightsInvalid(f"{Path(arguments[0]).name} stopped the process that read it: {last}",
                             remedy="run `upres doctor`") from error  # fmt: skip
    if run.returncode:
        raise WeightsInvalid(answer["message"], remedy=answer["remedy"])
    return Identity(tuple(answer["parts"]), answer["precision"], answer["ours"])
