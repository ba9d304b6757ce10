"""Looks that overlap are one look. Knows nothing of what is looked at."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

Seen = TypeVar("Seen")


class SharedLook(Generic[Seen]):
    """Every caller gets what was seen after it called; those that wait meanwhile get the same. However many threads
    ask, one looks at a time, and none waits for more than the look under way and the next.
    """

    def __init__(self, look: Callable[[], Seen]) -> None:
        self._look = look
        self._looking = threading.Lock()
        self._joining = threading.Lock()
        self._next: Future[Seen] | None = None  # what those wait for who came after the last look began

    def __call__(self) -> Seen:
        """Raises what the look raises."""
        with self._joining:
            seen, first = self._next, self._next is None
            if seen is None:
                seen = self._next = Future()
        if first:
            with self._looking:
                with self._joining:
                    self._next = None
                try:
                    seen.set_result(self._look())
                except BaseException as error:
                    seen.set_exception(error)
        return seen.result()
