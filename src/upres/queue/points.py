"""Named places in the life of a task at which a process may die. Knows nothing of what happens there.

Every transaction has two: `<name>.written` before its commit and `<name>.committed` after it; `complete` has a third,
`complete.published`. Nothing is installed outside of tests, which kill, stop or starve the process at each in turn.
"""

from __future__ import annotations

from collections.abc import Callable

_hook: Callable[[str], None] | None = None


def install(hook: Callable[[str], None] | None) -> None:
    global _hook
    _hook = hook


def reached(point: str) -> None:
    if _hook is not None:
        _hook(point)
