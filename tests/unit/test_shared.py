"""Looks that overlap are one look."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support import until
from upres.shared import SharedLook

CALLERS = 20


class Gate:
    """A look that counts itself, and of which the first takes until it is let go."""

    def __init__(self) -> None:
        self.looks = 0
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self) -> int:
        self.looks += 1
        self.begun.set()
        assert self.go.wait(60)
        return self.looks


def joined() -> int:
    """How many threads wait for a look that has yet to begin, or have one under way."""
    return sum("first" in frame.f_locals for top in sys._current_frames().values()
               for frame in _frames(top) if frame.f_code is SharedLook.__call__.__code__)  # fmt: skip


def _frames(frame):
    while frame is not None:
        yield frame
        frame = frame.f_back


def test_all_who_come_during_a_look_share_the_next_one():
    gate = Gate()
    look = SharedLook(gate)
    with ThreadPoolExecutor(CALLERS + 1) as threads:
        early = threads.submit(look)
        assert gate.begun.wait(60)
        late = [threads.submit(look) for _ in range(CALLERS)]
        until(lambda: joined() == CALLERS + 1, "all wait")
        gate.go.set()
        assert early.result() == 1
        assert {seen.result() for seen in late} == {2}  # never what was seen before they asked
    assert gate.looks == 2


def test_a_look_that_fails_fails_for_those_who_shared_it_alone():
    answers = iter([ValueError("no"), 7])

    def look() -> int:
        answer = next(answers)
        if isinstance(answer, ValueError):
            raise answer
        return answer

    shared = SharedLook(look)
    with pytest.raises(ValueError, match="no"):
        shared()
    assert shared() == 7
