"""Which frames stand in where a window has too few. Numbers only: no torch."""

from __future__ import annotations


def on_grid(frames: int) -> int:
    """The least 4n + 1 that is not below `frames`."""
    return -(-(frames - 1) // 4) * 4 + 1


def extended(frames: int, size: int) -> list[int]:
    """Numbers of `frames` frames and of what follows them up to `size`.

    Backwards from the last but one as long as that is enough. Beyond it, as numz/ComfyUI-SeedVR2_VideoUpscaler 4490bd1
    does: backwards from the last down to the second, and then the last again and again.
    """
    missing = max(0, size - frames)
    last = frames - 1
    if missing < frames:
        return [*range(frames), *(last - 1 - i for i in range(missing))]
    return [*range(frames), *range(last, 0, -1), *[last] * (missing - last)]
