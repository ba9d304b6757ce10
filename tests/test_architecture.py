"""The house rules that are expensive to break: who imports whom, where torch may live, how long a file may be."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "upres"
COMMON = {"errors", "tasks", "version"}

MODEL_PARTS = {"models.restorer", "models.limits", "models.placement", "models.offload", "models.attention",
               "models.weights"}  # fmt: skip

# room -> the rooms it may import (besides itself and COMMON); the longest matching prefix names a module's room
ARROWS: dict[str, set[str]] = {
    "__init__": {"engine"},
    "errors": set(), "version": set(), "tasks": set(), "settings": set(),
    "catalog": {"models.limits"}, "sources": set(),
    "supply": {"catalog", "sources", "settings", "environment"},
    "queue": set(),
    "fleet": {"queue", "settings"},
    "media": {"environment"}, "environment": set(),
    "restore.plan": {"models.limits", "restore.framing"}, "restore.framing": set(),
    "restore.memory": {"restore.plan", "models.placement", "models.seedvr2.config", "models.seedvr2.footprint"},
    "restore.segments": {"media"},
    "restore": {"restore.plan", "restore.framing", "restore.segments", "restore.memory", "models.restorer",
                "models.limits", "models.placement", "models.kernels", "media"},
    "models": set(), "models.limits": set(),
    "models.placement": set(), "models.kernels": set(),
    "models.restorer": {"models.limits", "models.placement"},
    "models.attention": {"models.kernels"}, "models.weights": {"models.kernels"},
    "models.offload": {"models.placement"},
    "models.files": {"models.seedvr2", "models.flashvsr", "models.weights"},
    "models.compact": MODEL_PARTS,
    "models.seedvr2": MODEL_PARTS | {"models.kernels"},
    "models.flashvsr": MODEL_PARTS | {"models.kernels"},
    "worker": {"restore", "restore.plan", "restore.memory", "queue", "catalog", "settings", "models.restorer",
               "models.kernels", "models.attention", "limits"},
    "limits": {"queue", "settings", "disk"}, "disk": set(),
    "engine": {"queue", "fleet", "catalog", "media.probe", "media.output", "restore.plan",
               "restore.memory", "settings", "remote", "limits", "disk", "intake", "forecast", "forecast_values",
               "line", "pictures", "pictures.values"},
    "line": {"queue", "catalog", "shared"}, "shared": set(),
    "remote": {"settings", "engine", "intake", "forecast_values", "pictures", "pictures.values"},
    "intake": {"limits", "media.probe", "media.output", "media.codecs", "media.nvenc", "restore.plan"},
    "forecast": {"catalog", "disk", "line", "media.output", "restore.plan", "restore.memory", "queue",
                 "forecast_values"},
    "forecast_values": {"media.probe"},
    "pictures": {"media", "restore.plan", "restore.segments", "pictures.values"},
    "pictures.values": {"media.probe", "restore.plan"},
    "doctor": {"engine", "catalog", "fleet", "settings", "media.nvenc"},
    "surfaces": {"engine", "forecast_values", "pictures.values", "doctor", "settings", "limits", "mcp_server",
                 "supply"},
    "mcp_server": {"surfaces", "engine", "settings"},
}  # fmt: skip
TORCH_ROOMS = ("worker", "restore", "models")
TORCH_FREE = ("restore.plan", "restore.framing", "restore.memory", "restore.segments", "models.limits",
              "models.placement", "models.seedvr2.config", "models.seedvr2.footprint", "worker.process", "worker.loop",
              "worker.sealed")  # fmt: skip
HEAVY = {"torch", "einops", "safetensors", "diffusers"}
LONGEST_FILE = 400
LONGEST_FUNCTION = 60


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        yield ".".join(parts if parts[-1] != "__init__" or len(parts) == 1 else parts[:-1]), path


MODULES = dict(modules())


def room(module: str) -> str:
    parts = module.split(".")
    prefixes = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((prefix for prefix in prefixes if prefix in ARROWS), module)


def imports(path: Path, *, top_level_only: bool = False) -> Iterator[str]:
    tree = ast.parse(path.read_text("utf-8"))
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield str(node.module)


@pytest.mark.parametrize("module", MODULES)
def test_imports_follow_the_arrows(module: str) -> None:
    here = room(module)
    assert here in ARROWS, f"{module} is in no room"
    for name in imports(MODULES[module]):
        if name != "upres" and name.startswith("upres."):
            target = name.removeprefix("upres.")
            allowed = ARROWS[here] | COMMON | {here}
            assert room(target) in allowed or target in allowed, f"{module} may not import {target}"


@pytest.mark.parametrize("module", MODULES)
def test_torch_lives_only_in_worker_restore_and_models(module: str) -> None:
    may = module.startswith(TORCH_ROOMS) and not module.startswith(TORCH_FREE)
    heavy = {name.split(".")[0] for name in imports(MODULES[module])} & HEAVY
    assert may or not heavy, f"{module} imports {heavy}"


@pytest.mark.parametrize("module", ["upres", "upres.surfaces.mcp", "upres.surfaces.asgi", "upres.surfaces.cli",
                                    "upres.engine", "upres.doctor", "upres.surfaces.cli_weights",
                                    "upres.restore.memory"])  # fmt: skip
def test_front_ends_load_neither_torch_nor_what_pictures_need(module: str) -> None:
    code = f"import sys, {module}; sys.exit(bool({{'torch', 'numpy', 'PIL'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_no_file_is_too_long_and_most_are_short() -> None:
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in MODULES.values()}
    long = {path.name: lines for path, lines in lengths.items() if lines > LONGEST_FILE}
    assert not long
    short = sum(lines <= 300 for lines in lengths.values())
    assert short >= 0.9 * len(lengths), f"only {short} of {len(lengths)} files have 300 lines or fewer"


def test_no_function_is_too_long() -> None:
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                assert lines <= LONGEST_FUNCTION, f"{module}.{node.name} has {lines} lines"
