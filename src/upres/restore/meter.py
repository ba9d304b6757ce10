"""How far a task has come, and how fast it goes once it runs. Knows nothing of frames but their number."""

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
        self._taken = self._taken_before = 0  # frames that the model got; before it gave the first one back
        self._first_at: float | None = None
        self.pace_s: float | None = None
        report(self._progress)

    @property
    def made(self) -> int:
        """Frames of this attempt."""
        return self._progress.frames_done - self._already

    def taking(self, blocks: Iterable[Arriving]) -> Iterator[Arriving]:
        for block in blocks:
            self._taken += len(block.frames)
            yield block

    def add(self, frames: int) -> None:
        if self._first_at is None:
            self._first_at, self._taken_before = time.monotonic(), self._taken
        done = self._progress.frames_done + frames
        fps = (done - self._already) / max(time.monotonic() - self._since, 1e-6)
        self._progress = self._progress.model_copy(update={"frames_done": done, "fps": fps})
        self._report(self._progress)

    def written(self) -> None:
        """All is. Seconds a frame are those from the first one's return on, over the frames that were taken after it:
        whatever the model had begun of those it held by then was done before. So it is rather too slow, for short
        clips, than too fast; None where the model held all of them.
        """
        after = self._taken - self._taken_before
        if self._first_at is not None and after > 0:
            self.pace_s = (time.monotonic() - self._first_at) / after

    def phase(self, phase: Phase) -> None:
        self._progress = self._progress.model_copy(update={"phase": phase})
        self._report(self._progress)
