"""The media contract on every clip, as a table.

    python -m tests.contract [--only WORD] [--write docs/media.md]

Exit status 0 only if every promise was kept.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from pathlib import Path

import torch

from .cases import CASES, Case
from .judge import Verdict, judge

COLUMNS = ("input", "asked for", "frames", "rate", "size", "codec, bits", "colour", "sound, subtitles", "sync, ms",
           "error, levels", "said", "kept")  # fmt: skip
HEAD = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}"


def main() -> int:
    parser = argparse.ArgumentParser(description="restore every clip and hold the result against its promise")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--quick", action="store_true", help="a short list that has one of every kind")
    parser.add_argument("--write", type=Path, help="put the table into this Markdown file, between its markers")
    options = parser.parse_args()
    torch.set_num_threads(1)
    began, verdicts = time.monotonic(), []
    print(HEAD, flush=True)
    for case in CASES:
        if options.only in case.name and (case.quick or not options.quick):
            with tempfile.TemporaryDirectory() as folder:
                verdicts.append(judged(case, Path(folder)))
            print(row(verdicts[-1]), flush=True)
    bad = [verdict for verdict in verdicts if verdict.faults]
    print(f"\n{len(verdicts)} clips, {len(bad)} broken promises, {time.monotonic() - began:.0f} s")
    for verdict in bad:
        print(f"  {verdict.case.name}: {'; '.join(verdict.faults)}")
    if options.write is not None:
        write(options.write, verdicts)
    return 1 if bad else 0


def judged(case: Case, folder: Path) -> Verdict:
    try:
        return judge(case, folder)
    except Exception as defect:  # in Upres or in the judge: a broken promise, and no reason to stop
        traceback.print_exc()
        return Verdict(case, None, (repr(defect),), refused=type(defect).__name__)


def row(verdict: Verdict) -> str:
    case, found = verdict.case, verdict.measured
    asked = ", ".join(f"{name}={value}" for name, value in case.order.items())
    kept = "yes" if not verdict.faults else "**no**"
    if found is None:
        cells = [case.name, asked, "", "", "", "", "", "", "", "", f"refused: {verdict.refused}", kept]
    else:
        colour = "/".join(part for part in found.colour if part is not None)
        tracks = ", ".join((*found.sound, *found.subtitles))
        sync = "" if verdict.sync_ms is None else f"{max(0.0, verdict.sync_ms):.1f}"
        error = "" if verdict.error is None else f"{verdict.error:.1f}"
        size = "x".join(map(str, found.size))
        cells = [case.name, asked, str(found.frames), found.rate, size, f"{found.codec}, {found.bits}", colour, tracks,
                 sync, error, "; ".join(verdict.warnings), kept]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def write(path: Path, verdicts: list[Verdict]) -> None:
    begin, end = "<!-- clips -->\n", "<!-- /clips -->"
    text = path.read_text("utf-8")
    head, _, rest = text.partition(begin)
    table = "\n".join([HEAD, *map(row, verdicts)])
    path.write_text(f"{head}{begin}{table}\n{end}{rest.partition(end)[2]}", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
