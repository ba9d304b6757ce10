"""The README says what the program does: its tables are compared with the program, its commands with the parser."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from mcp import Client

from upres.engine import LocalEngine
from upres.settings import SETTINGS, Settings
from upres.surfaces.cli import parser
from upres.surfaces.mcp import build_server
from upres.tasks import TaskSpec

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def table(name: str) -> list[list[str]]:
    """The rows of the table between `<!-- name -->` and `<!-- /name -->`, without its head."""
    block = README.split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0].strip().splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in block[2:]]


def test_the_settings_table_is_the_settings() -> None:
    assert table("settings") == [[f"`{row.variable}`", row.shown_default, row.meaning] for row in SETTINGS]


@pytest.mark.anyio
async def test_the_tools_table_is_the_registered_tools(engine: LocalEngine, settings: Settings) -> None:
    async with Client(build_server(engine, settings)) as client:
        tools = (await client.list_tools()).tools
    expected = [[f"`{tool.name}`", ", ".join(tool.input_schema.get("properties", {})), tool.title] for tool in tools]
    assert table("tools") == expected


def test_every_parameter_and_its_default_is_documented() -> None:
    for name, field in TaskSpec.model_fields.items():
        if name not in ("input_path", "kind", "output_path", "overwrite"):
            row = re.search(rf"^\|[^|]*`{name}`[^|]*\| ([^|]+) \|", README, re.MULTILINE)
            assert row, f"{name} is not in the README"
            assert field.default is None or str(field.default) in row[1]


def test_every_command_shown_is_one_the_parser_takes(capsys: pytest.CaptureFixture[str]) -> None:
    for line in re.findall(r"^ +upres (.+?)(?: {2,}#.*)?$", README, re.MULTILINE):
        parser().parse_args(line.split())


def test_the_example_with_modules_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.seedvr2_tiny import write_set

    write_set(tmp_path, "seedvr2_ema_3b_fp8_e4m3fn.safetensors")
    monkeypatch.chdir(tmp_path)
    (example,) = (code for code in re.findall(r"```python\n(.+?)```", README, re.DOTALL) if "from_single_file" in code)
    names: dict[str, object] = {}
    exec(example, names)
    assert names["frames"].shape == names["video"].shape and names["frames"].isfinite().all()


def test_every_make_target_shown_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"(?:^ +|`)make ([a-z-]+)", README, re.MULTILINE)) <= targets


def test_every_file_the_readme_names_exists() -> None:
    for name in re.findall(r"`((?:src|tests|weights)/[\w./]+|mcp\.json\.example)`", README):
        assert (ROOT / name).exists() or (ROOT / "src" / "upres" / name).exists(), name


def test_the_example_configuration_is_valid_json() -> None:
    assert json.loads((ROOT / "mcp.json.example").read_text("utf-8"))
