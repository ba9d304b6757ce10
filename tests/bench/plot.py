"""What `tests.bench.gpu --parts growth` measured, as a table and a picture: frames/s by window and by size.

    python tests/bench/plot.py FOLDER/gpu.json [--out tests/bench/growth]     writes growth.md and growth.svg

Needs nothing but Python.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

WIDTH, HEIGHT, MARGIN = 420, 260, 48
COLORS = {"plain": "#888888", "fused": "#1565c0", "fp8": "#c62828"}
FULL_HD = (1088, 1920)
FEW = 5  # frames of a window where sizes are compared

Point = tuple[str, float]  # what it is of, frames/s


def rates(rows: list[dict[str, Any]]) -> dict[str, dict[tuple[int, int, int], float]]:
    """mode -> (frames, height, width) -> frames/s of all phases together; the last measurement of each counts."""
    seconds: dict[tuple[str, tuple[int, int, int]], dict[str, float]] = defaultdict(dict)
    for row in rows:
        window = row["window"]
        key = row["mode"], (window["frames"], window["height"], window["width"])
        seconds[key][row["phase"]] = row["seconds"]
    found: dict[str, dict[tuple[int, int, int], float]] = defaultdict(dict)
    for (mode, window), phases in seconds.items():
        found[mode][window] = window[0] / sum(phases.values())
    return found


def by_window(known: dict[tuple[int, int, int], float]) -> list[Point]:
    return [(str(frames), rate) for (frames, *size), rate in sorted(known.items()) if tuple(size) == FULL_HD]


def by_size(known: dict[tuple[int, int, int], float]) -> list[Point]:
    few = {size: rate for (frames, *size_), rate in known.items() if frames == FEW for size in [tuple(size_)]}
    return [(f"{width}x{height}", rate) for (height, width), rate in sorted(few.items())]


def table(title: str, lines: dict[str, list[Point]]) -> str:
    labels = list(dict.fromkeys(label for points in lines.values() for label, _ in points))
    rows = [f"| {title} | " + " | ".join(lines) + " |", "|---|" + "---|" * len(lines)]
    for label in labels:
        cells = (next((f"{rate:.2f}" for at, rate in points if at == label), "-") for points in lines.values())
        rows.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def chart(left: int, title: str, lines: dict[str, list[Point]]) -> str:
    """Places along the axis are evenly spaced, whatever the labels say; frames/s begin at 0."""
    labels = list(dict.fromkeys(label for points in lines.values() for label, _ in points))
    top = max((rate for points in lines.values() for _, rate in points), default=1.0)
    step = (WIDTH - 2 * MARGIN) / max(1, len(labels) - 1)

    def at(label: str, rate: float) -> tuple[float, float]:
        return left + MARGIN + step * labels.index(label), HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * rate / top

    axes = f"M{left + MARGIN} {MARGIN}V{HEIGHT - MARGIN}H{left + WIDTH - MARGIN}"
    parts = [f'<text x="{left + WIDTH / 2}" y="20" text-anchor="middle">{title}</text>',
             f'<path d="{axes}" stroke="#000"/>']  # fmt: skip
    for label in labels:
        x, y = at(label, 0)
        parts.append(f'<text x="{x:.0f}" y="{y + 16:.0f}" text-anchor="middle">{label}</text>')
    for number, (mode, points) in enumerate(lines.items()):
        color, places = COLORS.get(mode, "#2e7d32"), [at(*point) for point in points]
        way = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{way}" stroke="{color}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>'
                  f'<text x="{x:.0f}" y="{y - 7:.0f}" text-anchor="middle" fill="{color}">{rate:.2f}</text>'
                  for (x, y), (_, rate) in zip(places, points, strict=True)]  # fmt: skip
        parts.append(f'<text x="{left + MARGIN + 70 * number}" y="{HEIGHT - 8}" fill="{color}">{mode}</text>')
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", type=Path)
    parser.add_argument("--out", type=Path, default=Path("tests/bench/growth"))
    options = parser.parse_args()
    figures = json.loads(options.figures.read_text("utf-8"))
    known = rates(figures["phases"])
    windows = {mode: by_window(found) for mode, found in known.items()}
    sizes = {mode: by_size(found) for mode, found in known.items()}
    head = f"{figures['device']}, torch {figures['torch']}: frames/s of all phases, random weights.\n"
    text = "\n\n".join((head, table("frames at 1080p", windows), table(f"windows of {FEW}", sizes))) + "\n"
    options.out.with_suffix(".md").write_text(text, "utf-8")
    charts = chart(0, "frames/s by window, 1080p", windows) + chart(WIDTH, f"frames/s by size, {FEW} frames", sizes)
    options.out.with_suffix(".svg").write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="11" fill="none"><rect width="100%" height="100%" fill="#fff"/><g>{charts}</g></svg>\n'
        .replace('middle">', 'middle" fill="#000">'), "utf-8")  # fmt: skip
    print(text)


if __name__ == "__main__":
    main()
