"""Checks every vector file of a directory: one line a file, the counts in the last, exit status 0 only if all hold.

    python -m tests.parity tests/golden/seedvr2
    python -m tests.parity tests/golden/seedvr2 --device cuda --kernels fused [--dtype bfloat16]

Elsewhere than where it was recorded, SeedVR2's networks alone are checked, to the tolerances in place.py.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from upres.models.kernels.switch import use

from . import check_file, is_of_a_network
from .place import Place, go
from .recording import NotUnderstood


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.parity", description="compare with recorded tensors")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--kernels", choices=("plain", "fused", "fp8"), default="plain")
    options = parser.parse_args()
    folder, elsewhere = options.directory, _go(options)
    if not folder.is_dir():
        parser.error(f"{folder} is not a directory")
    files = sorted(path for path in folder.iterdir() if path.suffix in (".safetensors", ".json"))
    if elsewhere:
        files = [path for path in files if is_of_a_network(path)]
    torch.set_num_threads(1)
    with torch.inference_mode():
        held = sum(report(path) for path in files)
    print(f"{held} of {len(files)} files hold, {len(files) - held} do not")
    return 0 if files and held == len(files) else 1


def _go(options: argparse.Namespace) -> bool:
    """Where it was asked for; says whether that is elsewhere than where it was recorded."""
    place = Place(options.device, getattr(torch, options.dtype))
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    use(options.kernels)
    go(place)
    return not place.recorded or options.kernels != "plain"


def report(path: Path) -> bool:
    """Prints the check that comes nearest to its tolerance, or lies farthest beyond."""
    try:
        checks = check_file(path)
    except NotUnderstood as error:
        print(f"FAIL {path.name}: {error}", flush=True)
        return False
    except Exception as error:  # whatever our code raises on a recording is a failure of that file only
        print(f"FAIL {path.name}: {type(error).__name__}: {str(error).splitlines()[0]}", flush=True)
        return False
    worst = max(checks, key=lambda check: (not check.holds, check.error / max(check.tolerance, 1e-300)))
    word = "ok  " if all(check.holds for check in checks) else "FAIL"
    print(f"{word} {path.name}: {worst.what}: error {worst.error:.3g}, tolerance {worst.tolerance:.3g} "
          f"({len(checks)} checks)", flush=True)  # fmt: skip
    return bool(checks) and word == "ok  "


if __name__ == "__main__":
    sys.exit(main())
