"""Frames put before a clip, which the reference can be asked for and Upres does not offer."""

from __future__ import annotations


def preceded(frames: int, count: int) -> list[int]:
    """Numbers of `count` frames that lead in, and of the `frames` themselves: forwards to the second frame's mirror
    image if there are enough; else what would be appended, put in front and backwards.
    """
    if count < frames:
        return [*range(count, 0, -1), *range(frames)]
    last = frames - 1
    return [*[last] * (count - last), *range(last, 0, -1), *range(frames)]
