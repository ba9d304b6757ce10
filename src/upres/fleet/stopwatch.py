"""Tells a worker that is slow from one that is stuck. Knows only pulses and a clock that never jumps."""

from __future__ import annotations

from upres.queue.workers import Pulse

FIRST_FRAME_FACTOR = 4  # loading 16 GB, compiling kernels and a first window take longer than any later step
START_S = 300.0  # a busy machine may take minutes to import torch; without a task, less than this means nothing
LONGEST_STEP_FACTOR = 20  # a task's own longest step so far says what is slow for it


class Stopwatch:
    """One worker's; feed it pulses, at any interval."""

    def __init__(self, limit_s: float, now_s: float) -> None:
        """`limit_s` without any progress means stuck; `now_s` is of a monotonic clock, here and below."""
        self._limit_s = limit_s
        self._pulse: Pulse | None = None
        self._since_s = now_s
        self._longest_step_s = 0.0

    def stuck_s(self, pulse: Pulse, now_s: float) -> float | None:
        """How long the worker has stood still, if that is too long."""
        last, still_s = self._pulse, now_s - self._since_s
        if last is None or not pulse.owed or pulse.mark != last.mark:
            if last is None or pulse.task_id != last.task_id:
                self._longest_step_s = 0.0
            elif pulse.frames_done > last.frames_done > 0:
                self._longest_step_s = max(self._longest_step_s, still_s)
            self._pulse, self._since_s = pulse, now_s
            return None
        allowed_s = max(self._limit_s, LONGEST_STEP_FACTOR * self._longest_step_s)
        if pulse.frames_done == 0:
            allowed_s *= FIRST_FRAME_FACTOR
        if pulse.task_id is None:
            allowed_s = max(allowed_s, START_S)
        return still_s if still_s > allowed_s else None
