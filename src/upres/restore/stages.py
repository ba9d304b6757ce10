"""Reading ahead and writing behind: two threads with bounded queues. Knows nothing of what passes through.

An exception on either side of a queue reaches the other side and ends both.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import TracebackType
from typing import Generic, Self, TypeVar

Item = TypeVar("Item")


class _End:
    """What a reader thread puts last: why it stopped."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class ReadAhead(Generic[Item]):
    """Iterates `source` in a thread, at most `depth` items ahead. Leaving the `with` ends the thread."""

    def __init__(self, source: Iterable[Item], depth: int = 2) -> None:
        self._source = source
        self._items: queue.Queue[Item | _End] = queue.Queue(depth)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="read-ahead", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._closing.set()
        while self._thread.is_alive():
            _drain(self._items)
            self._thread.join(0.05)

    def __iter__(self) -> Iterator[Item]:
        while not isinstance(item := self._items.get(), _End):
            yield item
        if item.error is not None:
            raise item.error

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            for item in self._source:
                self._items.put(item)
                if self._closing.is_set():
                    return
        except BaseException as caught:  # whatever it is, it is re-raised by the consumer
            error = caught
        self._items.put(_End(error))


class WriteBehind(Generic[Item]):
    """Calls `write` on each item in a thread, at most `depth` items behind, and at the end there `finish`.

    Leaving the `with` normally waits until all is written; leaving it by an exception drops what waits.
    """

    def __init__(
        self, write: Callable[[Item], None], depth: int = 2, *, finish: Callable[[], None] = lambda: None
    ) -> None:
        self._write, self._finish = write, finish
        self._items: queue.Queue[Item | None] = queue.Queue(depth)
        self._dropping = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="write-behind", daemon=True)

    def put(self, item: Item) -> None:
        """Raises what `write` raised for an earlier item."""
        self._raise()
        self._items.put(item)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None:
            self._dropping.set()
        self._items.put(None)
        self._thread.join()
        if kind is None:
            self._raise()

    def _run(self) -> None:
        while (item := self._items.get()) is not None:
            self._unless_dropping(partial(self._write, item))
        self._unless_dropping(self._finish)

    def _unless_dropping(self, step: Callable[[], None]) -> None:
        if self._dropping.is_set():
            return
        try:
            step()
        except BaseException as caught:  # re-raised by the producer
            self._error = caught
            self._dropping.set()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error


def _drain(items: queue.Queue[Item]) -> None:
    while True:
        try:
            items.get_nowait()
        except queue.Empty:
            return
