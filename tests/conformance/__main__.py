"""The official MCP conformance suite and the inspector's strict check against a real `upres serve`.

    python -m tests.conformance     (make conformance)

Runs what `make test` runs of it (test_official_suite.py), and then the inspector, which is too large to fetch for that.
What is fetched lies in .conformance, and so do the suite's logs.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.conformance.suite import HOME, OutOfReach, Suite, fetched, npm, with_node
from tests.support import make_settings
from tests.surfaces.serving import serving

INSPECTOR = "@modelcontextprotocol/inspector@2.12.0"
PATIENCE_S = 120


def main() -> int:
    try:
        suite = fetched()
        inspector = Suite(suite.node, HOME / "inspector")
        if not (inspector.folder / "node_modules" / ".bin" / "mcp-inspector").exists():
            inspector.folder.mkdir(exist_ok=True)
            (inspector.folder / "package.json").write_text('{"private": true}\n')
            npm(inspector, "install", INSPECTOR)
    except OutOfReach as error:
        print(f"skipped: {error}")
        return 0
    failed = pytest.main([str(Path(__file__).with_name("test_official_suite.py"))])
    with tempfile.TemporaryDirectory() as folder, serving(make_settings(Path(folder))) as server:
        return int(failed) | _inspected(inspector, f"{server.url}/mcp")


def _inspected(inspector: Suite, url: str) -> int:
    program = (inspector.folder / "node_modules" / ".bin" / "mcp-inspector").resolve()
    command: list[str | Path] = [inspector.node, program, "--cli", url, "--method", "tools/list", "--strict"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
                          env=with_node(inspector.node))  # fmt: skip
    print(f"inspector tools/list --strict: exit status {done.returncode}")
    print(done.stderr[-500:] if done.returncode else "")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
