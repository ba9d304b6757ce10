"""Measures SeedVR2 and FlashVSR's attention on a GPU, and does not time what `check` found to compute something else.

    python -m tests.bench.gpu [--parts check,phases,clip,...] [--modes plain,fused,fp8] [--model 3b,7b]
                              [--windows 5,21,81] [--sizes 1080,2160] [--reference CHECKOUT] [--out FOLDER] [--tiny]
                              [--weights FOLDER] [--footage FILE.npz]

Weights are random, or those that training.py made; footage.py makes the real frames that `likeness` then runs on.
Each part fits into ten minutes of one H100. Full figures go to FOLDER/gpu.json (of several models: FOLDER/3b.json …), a
short table is printed last.
`--tiny` runs everything with tiny networks, also on a CPU: to see that it runs, not how fast.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import torch

from tests.bench.gpu import attention, clips, reference
from tests.bench.gpu.footage import load
from tests.bench.gpu.likeness import Compared
from tests.bench.gpu.networks import ABOUT_FILE, computing_type, make, padded
from tests.bench.gpu.phases import Window, checked, counted, measured
from tests.bench.gpu.pieces import pieces
from tests.bench.gpu.timing import Ceilings, Timed, ceilings
from upres.models.kernels import switch
from upres.models.seedvr2.parts import Parts

PARTS = ("ceilings", "check", "pieces", "phases", "slices", "clip", "likeness", "growth", "sparse")
ASPECT = 16 / 9
GIB = 2**30


class Bench:
    """What is asked for, and what came of it."""

    def __init__(self, options: argparse.Namespace, model: str) -> None:
        self.options, self.model = options, model
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.results: dict[str, Any] = {"device": _name(self.device), "torch": torch.__version__, "model": model}
        self.lines: list[str] = [f"{_name(self.device)}, torch {torch.__version__}, {model} {_origin(options)}"]
        self.modes: list[switch.Mode] = list(options.modes)
        self.limits: Ceilings | None = None
        self.refused: set[str] = set()  # what computes something else, and so is not timed

    def run(self) -> int:
        for part in self.options.parts:
            began = time.perf_counter()
            getattr(self, part)()
            print(f"-- {part}: {time.perf_counter() - began:.0f} s", flush=True)
            self._write()
        if self.options.reference is not None:
            self.compare()
        self._write()
        print("\n" + "\n".join(self.lines))
        return int(bool(self.refused))

    def say(self, line: str) -> None:
        self.lines.append(line)
        print(line, flush=True)

    def ceilings(self) -> None:
        self.limits = ceilings(self.device, 256 if self.options.tiny else 8192)
        self.results["ceilings"] = asdict(self.limits)
        top = self.limits
        self.say(f"ceilings: bf16 {top.half_flops / 1e12:.0f} TFLOP/s, fp8 {top.fp8_flops / 1e12:.0f}, "
                 f"copy {top.copied_bytes / 1e12:.2f} TB/s, bus {top.bus_bytes / 1e9:.0f} GB/s")  # fmt: skip

    def check(self) -> None:
        window = Window(5, 64, 96) if self.options.tiny else Window(5, 320, 576)
        for mode in self.modes:
            for check in checked(self.model, mode, self.device, window, tiny=self.options.tiny,
                                 weights=self.options.weights):  # fmt: skip
                self.results.setdefault("check", []).append({"mode": mode, **asdict(check)})
                self.say(f"check {mode:6}{check.phase:12} {check.mode_db:6.1f} dB to float32, plain bf16 "
                         f"{check.plain_db:6.1f}{'' if check.good else '  WRONG'}")  # fmt: skip
                if not check.good:
                    self.refused.add(mode)
        if not attention.right(self.device, self.say):
            self.refused.add("sparse")
        self.modes = [mode for mode in self.modes if mode not in self.refused]
        if self.refused:
            self.say(f"not timed, as it computes something else: {', '.join(sorted(self.refused))}")

    def pieces(self) -> None:
        for piece in pieces(self.device, tiny=self.options.tiny):
            self.results.setdefault("pieces", []).append(asdict(piece))
            self.say(str(piece))

    def phases(self) -> None:
        """The window that the reference's figures are of."""
        self._phases(Window(5, 64, 96) if self.options.tiny else Window(21, padded(1080), 1920), self.options.rounds)

    def growth(self) -> None:
        for frames in self.options.windows:
            self._phases(Window(frames, *_size(1080, self.options.tiny)), 1)
        for short in self.options.sizes:
            self._phases(Window(5, *_size(short, self.options.tiny)), 1)

    def clip(self) -> None:
        parts = self._parts()
        height, width = (64, 96) if self.options.tiny else (1080, 1920)
        window = 5 if self.options.tiny else 21
        for mode in self.modes:
            for stream in self.options.streams:
                frames = clips.whole(self.options.frames, window, stream)
                result = clips.passed(parts, mode, stream, window, frames, height, width, self.device,
                                      slice_frames=self.options.slices[0],
                                      watch=not self.options.unwatched)  # fmt: skip
                self.results.setdefault("clip", []).append({"mode": mode, "stream": stream, **asdict(result)})
                idle = "not watched" if result.idle is None else f"{100 * result.idle:.1f} %"
                self.say(f"clip {mode:6}{stream:6} {result.frames / result.seconds:7.2f} frames/s, {frames} frames, "
                         f"GPU idle {idle}, peak {result.peak_bytes / GIB:.1f} GiB")  # fmt: skip

    def slices(self) -> None:
        """The autoencoder's time and memory by the frames it takes together; nothing else on the device."""
        window = Window(5, 64, 96) if self.options.tiny else Window(21, padded(1080), 1920)
        parts = self._parts()
        weights = {"encode": parts.vae.encoder, "decode": parts.vae.decoder}
        for network in (parts.dit, *weights.values()):
            network.to("cpu")
        for mode in self.modes:
            for phase, network in weights.items():
                network.to(self.device)
                for frames in self.options.slices:
                    result = measured(parts, window, mode, self.device, 1, frames, (phase,))[phase]
                    self.results.setdefault("slices", []).append(
                        {"mode": mode, "phase": phase, "slice_frames": frames, **asdict(result)})  # fmt: skip
                    self.say(f"slices of {frames} {mode:6}{phase:8}{result.seconds * 1e3:7.0f} ms, peak "
                             f"{result.peak_bytes / GIB:.1f} GiB")  # fmt: skip
                network.to("cpu")

    def likeness(self) -> None:
        size = clips.Passage(5, 5, 64, 96, 4) if self.options.tiny else clips.Passage(21, 21, 1080, 1920, 8)
        source = None
        if self.options.footage is not None:
            source = load(self.options.footage, torch.device("cpu")).held.numpy()
        compared = Compared(self._parts(), size, self.device, source)
        fast = [mode for mode in self.modes if mode != "plain"]
        try:
            for row in chain(compared.of_modes(fast), compared.to_exact(fast)):
                self.results.setdefault("likeness", []).append(asdict(row))
                self.say(f"likeness {row}, end to end, of 8-bit pixels")
        except torch.OutOfMemoryError as error:
            self.say(f"likeness ends here: {str(error).splitlines()[0]}")

    def sparse(self) -> None:
        for row in attention.measured(self.device) if "sparse" not in self.refused else ():
            self.results.setdefault("sparse", []).append(row)
            self.say(attention.line(row))

    def compare(self) -> None:
        frames = 5 if self.options.tiny else 45
        theirs = reference.run(self.options.reference, self.model, frames, 21, self.options.tiny, self.device)
        self.results["reference"] = theirs
        self.say(f"reference: {theirs['frames_per_s']:.2f} frames/s, peak {theirs['peak_bytes'] / GIB:.1f} GiB")
        for row in self.results.get("clip", []):
            rate = row["frames"] / row["seconds"]
            self.say(f"ratio {row['mode']:6}{row['stream']:6} {rate / theirs['frames_per_s']:.2f} x the reference")

    def _parts(self) -> Parts:
        options = self.options
        return make(self.model, self.device, computing_type(self.device), tiny=options.tiny, weights=options.weights)

    def _phases(self, window: Window, rounds: int) -> None:
        published = counted(self.model, window, tiny=self.options.tiny, merged=False)
        parts = self._parts()
        label = f"{window.frames}x{window.height}x{window.width}"
        for mode in self.modes:
            times = self._fitting(parts, window, mode, rounds)
            if times is None:
                continue
            total = sum(result.seconds for result in times.values())
            for phase, result in times.items():
                row = {"mode": mode, "window": asdict(window), "phase": phase, **asdict(result)}
                line = f"{label} {mode:6}{phase:12} {result.seconds * 1e3:9.1f} ms +-{100 * result.spread:.0f} %"
                if phase in published:
                    row |= {"flops": published[phase].flops, "bytes": published[phase].bytes}
                    line += f" {published[phase].flops / result.seconds / 1e12:6.0f} TFLOP/s"
                    if self.limits is not None:
                        floor = published[phase].floor(self.limits.half_flops, self.limits.copied_bytes)
                        line += f", {result.seconds / floor:.2f} x the floor"
                self.results.setdefault("phases", []).append(row)
                print(f"{line}, peak {result.peak_bytes / GIB:.1f} GiB", flush=True)
            self.say(f"{label} {mode:6} " + ", ".join(f"{p} {t.seconds * 1e3:.0f}" for p, t in times.items())
                     + f" ms = {window.frames / total:.2f} frames/s")  # fmt: skip

    def _fitting(self, parts: Parts, window: Window, mode: switch.Mode, rounds: int) -> dict[str, Timed] | None:
        for frames in self.options.slices:
            try:
                return measured(parts, window, mode, self.device, rounds, frames)
            except torch.OutOfMemoryError as error:
                self.say(f"{window.frames}x{window.height}x{window.width} {mode}, slices of {frames}: "
                         f"{str(error).splitlines()[0]}")  # fmt: skip
            torch.cuda.empty_cache()
        return None

    def _write(self) -> None:
        self.options.out.mkdir(parents=True, exist_ok=True)
        name = "gpu" if len(self.options.model) == 1 else self.model
        (self.options.out / f"{name}.json").write_text(json.dumps(self.results, indent=1))


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def _origin(options: argparse.Namespace) -> str:
    if options.weights is None:
        return "random weights"
    return "weights of a training of ours: " + "; ".join((options.weights / ABOUT_FILE).read_text().splitlines())


def _size(short: int, tiny: bool) -> tuple[int, int]:
    return (32, 48) if tiny else (padded(short), padded(round(short * ASPECT)))


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def _among(known: tuple[str, ...]) -> Callable[[str], list[str]]:
    def read(text: str) -> list[str]:
        unknown = set(text.split(",")) - set(known)
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: not among {', '.join(known)}")
        return text.split(",")

    return read


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gpu")
    parser.add_argument("--parts", type=_among(PARTS), default=list(PARTS), help=",".join(PARTS))
    parser.add_argument("--modes", type=_among(get_args(switch.Mode)), default=["plain", "fused", "fp8"])
    parser.add_argument("--model", type=lambda text: _among(("3b", "7b"))(text.lower()), default=["3b"],
                        help="3b,7b: all parts with one, then with the other")  # fmt: skip
    parser.add_argument("--windows", type=_numbers, default=[5, 21, 45, 81], help="frames, at 1080p")
    parser.add_argument("--sizes", type=_numbers, default=[480, 720, 2160], help="short sides, of windows of 5")
    parser.add_argument("--slices", type=_numbers, default=[8, 4, 2, 1],
                        help="frames the autoencoder takes together; all other parts use the first number")  # fmt: skip
    parser.add_argument("--frames", type=int, default=63, help="of the clip")
    parser.add_argument("--streams", type=_among(("batch", "shot")), default=["batch", "shot"], help="of the clip")
    parser.add_argument("--unwatched", action="store_true", help="the clip once less: how idle the GPU is, is not said")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--reference", type=Path, help="a checkout of numz/ComfyUI-SeedVR2_VideoUpscaler")
    parser.add_argument("--weights", type=Path, help="a folder that training.py made, of the 3b")
    parser.add_argument("--footage", type=Path, help="a file that footage.py made: what likeness runs on")
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    if not torch.cuda.is_available() and not options.tiny:
        sys.exit("no GPU here: --tiny shows that the bench runs")
    return max(Bench(options, model).run() for model in options.model)


if __name__ == "__main__":
    sys.exit(main())
