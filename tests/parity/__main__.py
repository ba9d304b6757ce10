"""Checks every vector file of a directory: one line a file, the counts in the last, exit status 0 only if all hold.

    python -m tests.parity tests/golden/seedvr2
    python -m tests.parity tests/golden/seedvr2 --device cuda --kernels fused [--dtype bfloat16]

Elsewhere than where it was recorded, SeedVR2's networks alone are checked, to the tolerances in place.py.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from upres.models.kernels.switch import use

from . import check_file
from .networks import check_elsewhere
from .place import Place, go
from .recording import Check, NotUnderstood


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.parity", description="compare with recorded tensors")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--kernels", choices=("plain", "fused", "fp8"), default="plain")
    options = parser.parse_args()
    folder, check = options.directory, check_elsewhere if _go(options) else check_file
    if not folder.is_dir():
        parser.error(f"{folder} is not a directory")
    files = sorted(path for path in folder.iterdir() if path.suffix in (".safetensors", ".json"))
    torch.set_num_threads(1)
    with torch.inference_mode():
        found = [held for path in files if (held := report(path, check)) is not None]
    held = sum(found)
    print(f"{held} of {len(found)} files hold, {len(found) - held} do not")
    return 0 if found and held == len(found) else 1


def _go(options: argparse.Namespace) -> bool:
    """Where it was asked for; says whether that is elsewhere than where it was recorded."""
    place = Place(options.device, getattr(torch, options.dtype))
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    use(options.kernels)
    go(place)
    return not place.recorded or options.kernels != "plain"


def report(path: Path, check: Callable[[Path], Sequence[Check]]) -> bool | None:
    """Prints the check that comes nearest to its tolerance, or lies farthest beyond. None if nothing is to be checked
    elsewhere than where it was recorded."""
    try:
        checks = check(path)
    except NotUnderstood as error:
        print(f"FAIL {path.name}: {error}", flush=True)
        return False
    except Exception as error:  # whatever our code raises on a recording is a failure of that file only
        print(f"FAIL {path.name}: {type(error).__name__}: {str(error).splitlines()[0]}", flush=True)
        return False
    if not checks:
        return None
    worst = max(checks, key=lambda each: (not each.holds, each.error / max(each.tolerance, 1e-300)))
    word = "ok  " if all(each.holds for each in checks) else "FAIL"
    print(f"{word} {path.name}: {worst.what}: error {worst.error:.3g}, tolerance {worst.tolerance:.3g} "
          f"({len(checks)} checks)", flush=True)  # fmt: skip
    return word == "ok  "


if __name__ == "__main__":
    sys.exit(main())
