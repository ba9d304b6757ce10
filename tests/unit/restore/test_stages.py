from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from upres.restore.stages import ReadAhead, WriteBehind


def test_items_come_in_order_and_all_of_them() -> None:
    with ReadAhead(iter(range(100))) as items:
        assert list(items) == list(range(100))


def test_reading_never_runs_further_ahead_than_its_depth() -> None:
    made = 0

    def count() -> Iterator[int]:
        nonlocal made
        while made < 100:
            made += 1
            yield made

    with ReadAhead(count(), depth=2) as items:
        for taken, _ in enumerate(items, start=1):
            assert made <= taken + 2 + 1  # the queue, and one in the reader's hand


def test_an_error_of_the_source_reaches_the_consumer_after_the_good_items() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("torn")

    got = []
    with pytest.raises(ValueError, match="torn"), ReadAhead(broken()) as items:
        got.extend(items)
    assert got == [] or got == [1]


def test_leaving_early_ends_the_reader_thread() -> None:
    before = threading.active_count()
    with ReadAhead(iter(range(10**9))) as items:
        next(iter(items))
    assert threading.active_count() == before


def test_writing_is_finished_when_the_block_is_left() -> None:
    written: list[int] = []
    with WriteBehind(written.append) as sink:
        for item in range(50):
            sink.put(item)
    assert written == list(range(50))


def test_an_error_of_the_writer_reaches_the_producer() -> None:
    def broken(item: int) -> None:
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"), WriteBehind(broken) as sink:
        for item in range(100):
            sink.put(item)


def test_an_error_of_the_last_write_is_not_lost() -> None:
    def broken(item: int) -> None:
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"), WriteBehind(broken) as sink:
        sink.put(1)


def test_leaving_by_an_exception_drops_what_waits() -> None:
    gate, written = threading.Event(), []

    def slow(item: int) -> None:
        gate.wait(10)
        written.append(item)

    with pytest.raises(KeyError), WriteBehind(slow) as sink:
        sink.put(1)
        sink.put(2)
        sink.put(3)
        threading.Timer(0.05, gate.set).start()
        raise KeyError
    assert written == [1]
