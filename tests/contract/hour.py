"""An hour of 29.97 frames a second with sound: is the last flash still with the last beep?

    python -m tests.contract.hour [--minutes 60]

The picture flashes and the sound beeps at every full second of the source. Both are measured in the result, at its
beginning and at its end; exit status 0 if every frame is there and no beep is further than a frame from its flash.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import psutil

from upres.media.probe import probe
from upres.restore.pipeline import restore
from upres.tasks import Progress, TaskSpec

from .judge import Enlarger
from .making import flashes
from .measure import flash_and_beep_s

RATE = Fraction(30000, 1001)


def main() -> int:
    parser = argparse.ArgumentParser(description="sync after an hour")
    parser.add_argument("--minutes", type=int, default=60)
    options = parser.parse_args()
    seen_mb: list[tuple[int, float]] = []

    def report(progress: Progress) -> None:
        seen_mb.append((progress.frames_done, psutil.Process().memory_info().rss / 2**20))

    with tempfile.TemporaryDirectory() as folder:
        source, result = flashes(Path(folder), options.minutes * 60, "30000/1001"), Path(folder) / "out.mp4"
        before, began = probe(source), time.monotonic()
        restore(TaskSpec(input_path=str(source), resolution=48, color_correction="none"), Enlarger(), result, report)
        took, after = time.monotonic() - began, probe(result)
        errors = [flash - beep for flash, beep in zip(*flash_and_beep_s(result), strict=True)]
        source_errors = [flash - beep for flash, beep in zip(*flash_and_beep_s(source), strict=True)]
    drift_s = max(abs(ours - theirs) for ours, theirs in zip(errors, source_errors, strict=True))
    half = after.frames // 2
    early, late = (max(mb for done, mb in seen_mb if (done > half) == is_late) for is_late in (False, True))
    print(f"{before.frames} frames in, {after.frames} out, rate {after.fps}, {took:.0f} s\n"
          f"flash to beep: first {errors[0] * 1000:+.1f} ms, last {errors[-1] * 1000:+.1f} ms of {len(errors)}; "
          f"further from the source's own by at most {drift_s * 1000:.1f} ms\n"
          f"memory: {early:.0f} MB in the first half, {late:.0f} MB in the second")  # fmt: skip
    good = after.frames == before.frames and after.fps == RATE and max(map(abs, errors)) <= 1 / RATE
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
