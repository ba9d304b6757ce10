"""The short forms of what `make test-media` shows in full."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_promised_of_clips_is_kept() -> None:
    run("tests.contract", "--quick")


def test_a_worker_killed_twice_leaves_the_same_frames() -> None:
    run("tests.contract.kills", "--kills", "2", "--frames", "60")


def test_hostile_files_are_refused_in_time_within_memory_and_open_nothing() -> None:
    run("tests.contract.hostile", "--quick")
