"""How far a task has come, and what of its time it ran. Knows nothing of frames but their number."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from upres.restore.transfers import Arriving
from upres.tasks import Phase, Progress

Report = Callable[[Progress], None]  # may raise, to stop the work


class Meter:
    """Counts finished frames and reports them; `already`: what an earlier attempt has finished."""

    def __init__(self, total: int, already: int, report: Report) -> None:
        self._progress = Progress(phase="restoring", frames_done=already, frames_total=total)
        self._already, self._report = already, report
        self._since = time.monotonic()
        self._taken = self._taken_before = 0  # frames the model got; before it gave one back
        self._first_at = self._since
        self.running_s = 0.0  # from the first frame's return until all was written
        report(self._progress)

    @property
    def made(self) -> int:
        """Frames of this attempt."""
        return self._progress.frames_done - self._already

    @property
    def following(self) -> int:
        """Frames that the model got after it had given the first one back."""
        return self._taken - self._taken_before

    def taking(self, blocks: Iterable[Arriving]) -> Iterator[Arriving]:
        for block in blocks:
            self._taken += len(block.frames)
            yield block

    def add(self, frames: int) -> None:
        if self.made == 0:
            self._first_at, self._taken_before = time.monotonic(), self._taken
        done = self._progress.frames_done + frames
        fps = (done - self._already) / max(time.monotonic() - self._since, 1e-6)
        self._progress = self._progress.model_copy(update={"frames_done": done, "fps": fps})
        self._report(self._progress)

    def written(self) -> None:
        self.running_s = time.monotonic() - self._first_at if self.made else 0.0

    def phase(self, phase: Phase) -> None:
        self._progress = self._progress.model_copy(update={"phase": phase})
        self._report(self._progress)
