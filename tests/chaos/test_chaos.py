from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_no_acknowledged_task_is_lost_doubled_or_torn_by_kills() -> None:
    command = [sys.executable, "-m", "tests.chaos", "--tasks", "16", "--kills", "5", "--seed", "3"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert run.returncode == 0, run.stdout + run.stderr
