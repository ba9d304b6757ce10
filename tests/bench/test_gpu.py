"""The GPU's bench, with tiny networks on the CPU, and with nothing installed but what it says it needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# whoever imports one of these fails: they need not be there
ABSENT = ("pydantic", "platformdirs", "fastapi", "mcp", "av", "httpx", "filelock", "psutil", "uvicorn", "PIL")
LAUNCH = f"""import runpy, sys
sys.modules.update(dict.fromkeys({ABSENT!r}))
runpy.run_module('tests.bench.gpu', run_name='__main__')"""


@pytest.mark.timeout(600)
def test_every_part_runs_tiny_and_writes_its_figures(tmp_path: Path) -> None:
    options = ["--tiny", "--modes", "plain", "--windows", "1", "--sizes", "480", "--frames", "6", "--rounds", "1"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", LAUNCH, *options, "--out", str(tmp_path)], capture_output=True,
                          text=True, env=environment, cwd=ROOT)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((tmp_path / "gpu.json").read_text())
    assert {row["phase"] for row in figures["phases"]} == {"encode", "transformer", "decode", "colour"}
    assert all(row["good"] for row in figures["check"])
    assert [row["frames"] for row in figures["clip"]] == [5, 5]
    assert "frames/s" in done.stdout.splitlines()[-1]


def test_work_is_counted_as_a_profiler_counted_it_on_the_card() -> None:
    """TFLOP of 21 frames at 1088 x 1920, to all digits that were recorded there; and what is left when merged."""
    code = ("from tests.bench.gpu.phases import Window, counted\n"
            "for merged in (False, True):\n"
            "    work = counted('3b', Window(21, 1088, 1920), tiny=False, merged=merged)\n"
            "    print(*(f'{work[p].flops / 1e12:.2f}' for p in ('encode', 'transformer', 'decode')))")  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.stdout.splitlines() == ["411.19 261.30 1056.73", "394.51 261.30 802.44"], done.stderr
