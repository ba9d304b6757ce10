"""Breaks everything on purpose and then judges by the log of operations: was a promise broken?

    python -m tests.chaos                        1,000 tasks, 8 submitters, 200 kills; three seeds, then the rest
    python -m tests.chaos storm --tasks 60 --kills 20 --seed 7 --takeovers 5 --bench torch --full-disk
    python -m tests.chaos starters|idle|model    one of the rest

Exit status 0 only if every promise was kept.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos import races
from tests.chaos.arena import Arena
from tests.chaos.checker import judge
from tests.chaos.oplog import read
from tests.chaos.storm import Storm, Weather, small_disk

SMALL_DISK_MB = 40


def main() -> int:
    parser = argparse.ArgumentParser(description="kill, stop and starve; lose nothing")
    parser.add_argument("what", nargs="?", choices=("all", "storm", "starters", "idle", "model"), default="all")
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--takeovers", type=int, default=20)
    parser.add_argument("--submitters", type=int, default=8)
    parser.add_argument("--seed", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--bench", choices=("paper", "torch"), default="paper")
    parser.add_argument("--full-disk", action="store_true")
    parser.add_argument("--rounds", type=int, help="of starters (50), exits of idle (1000), steps of model (10000)")
    options = parser.parse_args()
    kept = True
    if options.what in ("all", "storm"):
        for seed in options.seed:
            weather = Weather(options.tasks, options.kills, options.takeovers, options.submitters, seed)
            kept &= storm(weather, paper=options.bench == "paper")
        if options.full_disk or options.what == "all":
            kept &= storm(Weather(options.tasks // 2, options.kills // 4, 0, options.submitters, options.seed[0],
                                  full_disk=True), paper=options.bench == "paper")  # fmt: skip
    for name, race, rounds in (("starters", races.starters, 50), ("idle", races.idle_exits, 1000),
                               ("model", races.model, 10_000)):  # fmt: skip
        if options.what in ("all", name):
            kept &= race(options.rounds if options.rounds is not None else rounds)
    return 0 if kept else 1


def storm(weather: Weather, *, paper: bool) -> bool:
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        arena = Arena.make(folder, paper=paper)
        if weather.full_disk:
            if not hasattr(os, "geteuid") or os.geteuid() != 0:
                print("full disk: left out, mounting one needs root")
                return True
            stack.enter_context(small_disk(folder / "data", SMALL_DISK_MB))
        with arena.engine() as engine:
            it = Storm(arena, weather, engine)
            it.blow()
        verdict = judge(read(folder / "operations.log"), frozenset({"disk_full"} if weather.full_disk else ()))
        blows = ", ".join(f"{count} {what}" for what, count in sorted(it.done.items()))
        print(f"storm, seed {weather.seed}: {'kept' if verdict.kept else 'BROKEN'}: {verdict}; blows: {blows}; "
              f"{time.monotonic() - began:.0f} s", flush=True)
        if not verdict.kept:
            keep = Path(tempfile.gettempdir()) / f"chaos-{weather.seed}.log"
            keep.write_text((folder / "operations.log").read_text("utf-8"), "utf-8")
            print(f"  the log is {keep}")
        return verdict.kept


if __name__ == "__main__":
    sys.exit(main())
