"""Finds where a new shot begins. Knows only frames: no models, no files.

A frame begins a shot if the step to it is large, and far larger than the steps around it: a pan is all large steps, and
a flash is followed by a step back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor

GRID = 16  # a frame is judged by the mean colours of so many by so many parts
LEAST = 0.06  # mean distance of these colours, on [-1, 1], below which there is no cut: 8 of 255 levels
RATIO = 5.0  # how often a cut's step contains the mean of the steps around it: more than there are, for flashes' sake
BEHIND, AHEAD = 3, 2  # frames looked at before and after: two steps on either side


class Cuts:
    """Every frame pushed comes back with whether it begins a shot, AHEAD frames later; what was pushed together does
    not matter. The first frame of the clip begins none."""

    def __init__(self) -> None:
        self._frames: deque[Tensor] = deque()  # C H W, undecided
        self._colors: deque[Tensor] = deque()  # of these, and of up to BEHIND frames before them

    def push(self, frames: Tensor) -> Iterator[tuple[Tensor, bool]]:
        """T C H W, [-1, 1]."""
        self._frames.extend(frames)
        self._colors.extend(F.adaptive_avg_pool2d(frames.float(), GRID).cpu())
        while len(self._frames) > AHEAD:
            yield self._decide()

    def flush(self) -> Iterator[tuple[Tensor, bool]]:
        while self._frames:
            yield self._decide()

    def _decide(self) -> tuple[Tensor, bool]:
        known = len(self._colors) - len(self._frames)
        before, after = list(self._colors)[:known], list(self._colors)[known : known + 1 + AHEAD]
        if known == BEHIND:
            self._colors.popleft()
        return self._frames.popleft(), bool(before) and _is_cut(before, after)


def _is_cut(before: list[Tensor], after: list[Tensor]) -> bool:
    step = _distance(before[-1], after[0])
    around = [_distance(a, b) for run in (before, after) for a, b in pairwise(run)]
    return step > LEAST and step > RATIO * sum(around) / max(1, len(around))


def _distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().mean())
