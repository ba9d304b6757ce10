"""Which frames go through a model together, and which stand in where there are too few. Numbers only: no torch."""

from __future__ import annotations


def windows(frames: int, size: int, overlap: int = 0) -> list[range]:
    """Windows of `size` frames, each sharing `overlap` frames with the one before; the last may be shorter.

    An overlap that would leave no step forward counts as none.
    """
    step = size - overlap
    if step <= 0:
        step, overlap = size, 0
    starts = range(0, frames, step)
    return [range(start, min(start + size, frames)) for start in starts if start == 0 or frames - start > overlap]


def on_grid(frames: int, step: int = 4, offset: int = 1) -> int:
    """The least step * n + offset that is not below `frames`."""
    return -(-(frames - offset) // step) * step + offset


def extended(frames: int, size: int) -> list[int]:
    """Numbers of `frames` frames and of what follows them up to `size`.

    Backwards from the last but one as long as that is enough. Beyond it, as numz/ComfyUI-SeedVR2_VideoUpscaler 4490bd1
    does: backwards from the last down to the second, and then the last again and again.
    """
    missing = size - frames
    last = frames - 1
    if missing < frames:
        return [*range(frames), *(last - 1 - i for i in range(missing))]
    return [*range(frames), *range(last, 0, -1), *[last] * (missing - last)]


def preceded(frames: int, count: int) -> list[int]:
    """Numbers of `count` frames that lead in, and of the `frames` themselves.

    Forwards to the second frame's mirror image if there are enough; else what `extended` appends, put in front and
    backwards, as the same reference does.
    """
    if count < frames:
        return [*range(count, 0, -1), *range(frames)]
    last = frames - 1
    return [*[last] * (count - last), *range(last, 0, -1), *range(frames)]
