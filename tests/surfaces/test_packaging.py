"""What is shipped besides the package, as far as it can be checked here: the .mcpb bundle, the registry's entry."""

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.surfaces.stdio_process import request
from upres.settings import SETTINGS
from upres.version import __version__

ROOT = Path(__file__).parents[2]
PACKAGING = ROOT / "packaging"
PACK = PACKAGING / "mcpb" / "pack.py"
WITHOUT_TORCH = """
import sys
sys.modules["torch"] = sys.modules["safetensors"] = None
sys.path[0] = {!r}
import upres.mcp_server
print(upres.mcp_server.__file__, file=sys.stderr)
upres.mcp_server.main()
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    subprocess.run([sys.executable, PACK, folder], check=True, stdout=subprocess.DEVNULL)
    with zipfile.ZipFile(folder / "upres.mcpb") as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def manifest() -> dict[str, Any]:
    return dict(json.loads((PACKAGING / "mcpb" / "manifest.json").read_text()))


def test_the_bundle_serves_without_torch_and_without_what_its_user_left_empty(bundle: Path, tmp_path: Path) -> None:
    code = WITHOUT_TORCH.format(str(bundle / "src"))
    env = {"UPRES_DATA_DIR": str(tmp_path), "SEEDVR2_API_URL": "http://127.0.0.1:9",
           "UPRES_TOKEN": "${user_config.token}", "PATH": os.environ["PATH"]}  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], env=env, input=request("tools/list"), text=True,
                          capture_output=True, timeout=60, check=True)  # fmt: skip
    assert str(bundle) in done.stderr
    assert len(json.loads(done.stdout)["result"]["tools"]) == 15


def test_the_bundle_is_small_and_holds_no_weights_and_no_worker(bundle: Path) -> None:
    files = [path for path in bundle.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 2_000_000
    assert not [path for path in files if path.suffix == ".safetensors" or "worker" in path.parts]
    assert (bundle / manifest()["server"]["entry_point"]).is_file()


def test_the_same_files_make_the_same_bundle(tmp_path: Path) -> None:
    for name in ("one", "two"):
        subprocess.run([sys.executable, PACK, tmp_path / name], check=True, stdout=subprocess.DEVNULL)
    assert (tmp_path / "one" / "upres.mcpb").read_bytes() == (tmp_path / "two" / "upres.mcpb").read_bytes()


def test_versions_and_settings_are_the_programs() -> None:
    entry = json.loads((PACKAGING / "server.json").read_text())
    assert {manifest()["version"], entry["version"], entry["packages"][0]["version"]} == {__version__}
    known = {row.variable for row in SETTINGS}
    assert set(manifest()["server"]["mcp_config"]["env"]) <= known
    assert {row["name"] for row in entry["packages"][0]["environmentVariables"]} <= known
    assert len(entry["description"]) <= 100  # the registry's limit
    readme = (ROOT / "README.md").read_text("utf-8")
    assert f"mcp-name: {entry['name']}" in readme  # how the registry knows that the package is ours


REVERSE_DNS = r"^[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+$"
VARIABLE = {"type": "object", "required": ["name"], "properties": {
    "name": {"type": "string"}, "description": {"type": "string"}, "default": {"type": "string"},
    "isSecret": {"type": "boolean"}, "isRequired": {"type": "boolean"},
    "format": {"enum": ["string", "number", "boolean", "filepath"]}}, "additionalProperties": False}  # fmt: skip
# The field rules of the registry's published schema (docs/reference/server-json in modelcontextprotocol/registry, dated
# as `$schema` says) for the fields that we use. Those of other fields are left out, so any other field is refused here.
REGISTRY_RULES = {
    "type": "object", "required": ["name", "description", "version"], "additionalProperties": False,
    "properties": {
        "$schema": {"pattern": r"^https://static\.modelcontextprotocol\.io/schemas/\d{4}-\d\d-\d\d/server\.schema\.json$"},
        "name": {"type": "string", "minLength": 3, "maxLength": 200, "pattern": REVERSE_DNS},
        "title": {"type": "string", "minLength": 1, "maxLength": 100},
        "description": {"type": "string", "minLength": 1, "maxLength": 100},
        "version": {"type": "string", "maxLength": 255, "pattern": r"^\d+\.\d+\.\d+$"},  # ranges are rejected
        "packages": {"type": "array", "items": {
            "type": "object", "required": ["registryType", "identifier", "transport"], "additionalProperties": False,
            "properties": {
                "registryType": {"enum": ["npm", "pypi", "cargo", "oci", "nuget", "mcpb"]},
                "identifier": {"type": "string"}, "runtimeHint": {"type": "string"},
                "version": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^\d+\.\d+\.\d+$"},
                "transport": {"type": "object", "required": ["type"], "properties": {"type": {"const": "stdio"}},
                              "additionalProperties": False},
                "packageArguments": {"type": "array", "items": {
                    "type": "object", "required": ["type", "value"], "additionalProperties": False,
                    "properties": {"type": {"const": "positional"}, "value": {"type": "string"}}}},
                "environmentVariables": {"type": "array", "items": VARIABLE}}}},
    },
}  # fmt: skip


def test_the_registrys_entry_keeps_the_registrys_rules() -> None:
    entry = json.loads((PACKAGING / "server.json").read_text())
    assert [fault.message for fault in Draft202012Validator(REGISTRY_RULES).iter_errors(entry)] == []
    for broken in ({**entry, "name": "upres"}, {**entry, "description": "x" * 101}, {**entry, "version": "^1"},
                   {**entry, "packages": [{"identifier": "upres"}]}):  # fmt: skip
        assert not Draft202012Validator(REGISTRY_RULES).is_valid(broken)


def test_the_owner_in_the_registrys_name_is_a_placeholder_and_one_place_says_so() -> None:
    """`io.github.<owner>` must be the account that publishes; nobody has yet."""
    owner = json.loads((PACKAGING / "server.json").read_text())["name"].partition("/")[0]
    says = (PACKAGING / "README.md").read_text("utf-8")
    assert f"`{owner}` is a placeholder" in says


def test_the_front_needs_only_what_the_program_needs() -> None:
    front = re.findall(r'"([\w-]+)[>=]', (PACKAGING / "mcpb" / "pyproject.toml").read_text())
    program = re.findall(r'^  "([\w-]+)[>=]', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert set(front) <= set(program) and "torch" not in front
