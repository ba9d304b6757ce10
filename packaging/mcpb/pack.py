"""Packs the .mcpb bundle: `python packaging/mcpb/pack.py [folder]`. Same files, same bytes.

The bundle holds the package without worker, models and weights: what passes tasks to an `upres serve`.
"""

from __future__ import annotations

import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "src" / "upres"
LEFT_OUT = ("worker/", "supply/", "models/compact/", "models/flashvsr/", "models/weights/")
HEAVY = re.compile(r"^(?:import|from) (?:torch|einops|safetensors)", re.MULTILINE)
SUFFIXES = (".py", ".html", ".sql", ".typed")
EPOCH = (1980, 1, 1, 0, 0, 0)


def files() -> Iterator[tuple[str, Path]]:
    for name in ("manifest.json", "pyproject.toml"):
        yield name, HERE / name
    for path in sorted(path for path in SOURCE.rglob("*") if path.suffix in SUFFIXES):
        part = path.relative_to(SOURCE).as_posix()
        if not part.startswith(LEFT_OUT) and not HEAVY.search(path.read_text("utf-8")):
            yield f"src/upres/{part}", path


def pack(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    bundle = folder / "upres.mcpb"
    with zipfile.ZipFile(bundle, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in files():
            archive.writestr(zipfile.ZipInfo(name, EPOCH), path.read_bytes(), zipfile.ZIP_DEFLATED)
    return bundle


if __name__ == "__main__":
    sys.stdout.write(f"{pack(Path(sys.argv[1]) if len(sys.argv) > 1 else Path('dist'))}\n")
