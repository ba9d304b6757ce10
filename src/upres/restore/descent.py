"""One step down the ladder where memory runs out, in the middle of a clip. Knows no files and no particular model.

What was given back stays given back. The model begins anew a little before the first frame that is still due, so that
it comes to it in full swing; what it makes again of the frames before that is thrown away.
"""

from __future__ import annotations

import gc
import logging
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from upres.errors import OutOfMemory
from upres.models.kernels.switch import KernelFailed, give_up
from upres.models.placement import AT_ONCE, Placement
from upres.models.restorer import Forgetful, Restorer, Stream
from upres.restore.memory import MB, Ladder, MemoryPlan, Work

MOST_STEPS = 2  # down, in one task
LEAD_IN = 8  # source frames gone back, at most

log = logging.getLogger("upres.restore")


class Descent:
    """Where a task stands on its ladder, and why. Models without a footprint have none: what they need, they take."""

    def __init__(self, work: Work, restorer: Restorer, room_bytes: int | None) -> None:
        """room_bytes: None is as much as there is. Raises OutOfMemory if no step of the ladder fits."""
        room = sys.maxsize if room_bytes is None else room_bytes
        self.warnings: list[str] = []
        self.plan: MemoryPlan | None = None
        self._steps, self._cuda = 0, restorer.device.type == "cuda"
        if restorer.footprint is None:
            return
        self._ladder = Ladder(restorer.footprint, work, room, on_gpu=self._cuda)
        self.plan = self._ladder.first()
        if not self.plan.fits:
            needed, there = (-(-size // MB) for size in (self.plan.peak, room))
            raise OutOfMemory(f"{work.plan.target} needs {needed} MB of device memory at the least, {there} are there",
                              remedy=self.plan.remedy)  # fmt: skip
        if self.plan.step and (self.plan.placement.frugal or self.plan.window < work.plan.window):
            self.warnings.append(f"memory: {self.plan}")

    def step_down(self, frame: int, said: str) -> None:
        """Raises OutOfMemory at the end of the ladder, or of patience."""
        gc.collect()
        if self._cuda:
            torch.cuda.empty_cache()
        assert self.plan is not None
        lower = self._ladder.below(self.plan) if self._steps < MOST_STEPS else None
        if lower is None:
            raise OutOfMemory(f"out of device memory at frame {frame} ({self.plan}): {said}",
                              remedy="use a smaller resolution or batch_size, or a smaller model")  # fmt: skip
        log.warning("out of memory at frame %d (%s): %s; going on with %s", frame, self.plan, said, lower)
        self.plan, self._steps = lower, self._steps + 1
        self.warnings.append(f"memory: ran out at frame {frame}, went on with {lower}")

    def without_kernels(self, said: str) -> None:
        give_up(said)
        self.warnings.append(f"kernels: {said}; went on with plain ones")


class Descending:
    """A stream from source frames to restored ones, `T C H W`, which outlives a kernel that cannot be compiled, and
    torch.OutOfMemoryError where the descent has a plan: otherwise that error passes. `open` opens the model's stream,
    `prepare` makes its input.
    """

    def __init__(self, descent: Descent, window: int, block: int, open: Callable[[int, Placement, int], Stream],
                 prepare: Callable[[Tensor], Tensor], lead_in: int = 0) -> None:  # fmt: skip
        """open: window, placement, lead-in; lead_in: for the first `lead_in` frames nothing is given back."""
        self._descent, self._window, self._block = descent, window, block
        self._open, self._prepare = open, prepare
        self._due: deque[Tensor] = deque()  # source frames, C H W, whose restored ones were not given back
        self._before: deque[Tensor] = deque(maxlen=min(LEAD_IN, window))  # and those before them
        self._dropping = self._given_back = 0
        self._lead_in = self._unheard = lead_in  # of the stream that is open; and how much of it has yet to come
        self._begun = 0  # the frame, behind the lead-in, that the open stream began with
        self._fresh = 0
        self._stream: Stream | None = None

    @property
    def fresh(self) -> int:
        """The number, behind the lead-in, of the latest frame that the model began anew with: see `Forgetful`."""
        stream = self._stream
        if isinstance(stream, Forgetful) and stream.fresh > 0:  # where we began anew is no place of the model's own
            self._fresh = max(self._fresh, self._begun + stream.fresh)
        return self._fresh

    def push(self, source: Tensor) -> Iterator[Tensor]:
        self._before.extend(source[: self._unheard])
        self._due.extend(source[self._unheard :])
        self._unheard = max(0, self._unheard - len(source))
        yield from self._insisted([source], flush=False)

    def flush(self) -> Iterator[Tensor]:
        yield from self._insisted([], flush=True)

    def _insisted(self, blocks: Sequence[Tensor], *, flush: bool) -> Iterator[Tensor]:
        while True:
            try:
                yield from self._through(blocks, flush)
                return
            except torch.OutOfMemoryError as error:
                if self._descent.plan is None:
                    raise
                remedy = partial(self._descent.step_down, self._given_back, str(error).splitlines()[0])
            except KernelFailed as failure:
                remedy = partial(self._descent.without_kernels, str(failure))
            self._stream = None  # only here, with the error's traceback gone, is its memory free
            remedy()
            again = [*self._before, *self._due]
            self._dropping, self._lead_in = len(self._before), 0
            self._begun = self._given_back - len(self._before)
            blocks = [torch.stack(again[at : at + self._block]) for at in range(0, len(again), self._block)]

    def _through(self, blocks: Sequence[Tensor], flush: bool) -> Iterator[Tensor]:
        if self._stream is None:
            window, placement = self._window, AT_ONCE
            if self._descent.plan is not None:
                window, placement = self._descent.plan.window, self._descent.plan.placement
            self._stream = self._open(window, placement, self._lead_in)
        for block in blocks:
            for restored in self._stream.push(self._prepare(block)):
                yield from self._due_of(restored)
        if flush:
            for restored in self._stream.flush():
                yield from self._due_of(restored)

    def _due_of(self, restored: Tensor) -> Iterator[Tensor]:
        again = min(self._dropping, len(restored))
        self._dropping -= again
        restored = restored[again:]
        if len(restored):
            for _ in range(min(len(restored), len(self._due))):
                self._before.append(self._due.popleft())
            self._given_back += len(restored)
            yield restored
