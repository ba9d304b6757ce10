"""What a task would take by what others took: like ones, larger ones, and ones so small that they mostly started."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from upres.queue import migrations
from upres.queue.database import Database
from upres.queue.store import Price
from upres.queue.throughput import Measurement, Throughput, Times

HD = 1920 * 1080


@pytest.fixture
def throughput(tmp_path: Path) -> Iterator[Throughput]:
    with closing(Database(tmp_path / "upres.sqlite3")) as database:
        yield Throughput(database)


def took(
    throughput: Throughput, frames: int, seconds: float, *, pixels: int = HD, running_s: float = 0.0, following: int = 0
) -> None:
    throughput.add("compact", "cpu", Measurement.of(Price(frames, pixels), seconds, running_s, following))


def test_nothing_is_said_of_a_model_that_has_not_run(throughput: Throughput) -> None:
    took(throughput, 10, 1.0)
    assert throughput.times("other", Price(10, HD)) == Times() and Times().likely_s(7.0) == 7.0


def test_estimates_come_from_the_nearest_measured_sizes(throughput: Throughput) -> None:
    for _ in range(5):
        took(throughput, 10, 10.0, pixels=1000)
        took(throughput, 10, 20.0, pixels=100_000)
    assert throughput.times("compact", Price(10, 1200)).seconds == pytest.approx([12.0] * 5)
    assert throughput.times("compact", Price(10, 90_000)).seconds == pytest.approx([18.0] * 5)


def test_what_a_short_task_took_to_start_is_not_multiplied(throughput: Throughput) -> None:
    """20 s until the first of 9 frames came out."""
    took(throughput, 9, 20.9, running_s=0.8, following=8)
    assert throughput.times("compact", Price(9, HD)).seconds == pytest.approx([20.9])
    found = throughput.times("compact", Price(1000, HD))
    assert found.seconds == pytest.approx([120.0]) and not found.at_most


def test_a_task_that_never_got_into_its_stride_bounds_longer_ones(throughput: Throughput) -> None:
    took(throughput, 5, 20.0)
    assert throughput.times("compact", Price(10, HD)).likely_s(1.0) == pytest.approx(40.0)
    found = throughput.times("compact", Price(1000, HD))
    assert found.at_most and found.seconds == pytest.approx([4000.0])
    assert found.likely_s(60.0) == 60.0 and found.likely_s(5000.0) == pytest.approx(4000.0)


def test_pictures_much_smaller_than_ours_only_bound_it(throughput: Throughput) -> None:
    took(throughput, 100, 10.0, pixels=HD // 64, running_s=9.2, following=92)
    assert throughput.times("compact", Price(100, HD)).at_most
    took(throughput, 100, 30.0, pixels=HD // 4, running_s=27.6, following=92)
    assert throughput.times("compact", Price(100, HD)) == Times((pytest.approx(120.0),))  # the other no longer counts


def test_one_like_ours_counts_for_more_than_any_number_of_tiny_ones(throughput: Throughput) -> None:
    took(throughput, 500, 50.0, running_s=49.2, following=492)
    for _ in range(40):
        took(throughput, 1, 10.0)
    assert throughput.times("compact", Price(900, HD)).seconds == pytest.approx([90.0])


def test_a_pace_slower_than_the_whole_is_not_believed() -> None:
    assert Measurement.of(Price(9, HD), 1.0, running_s=0.8, following=1).overhead_s == 0.0
    assert Measurement.of(Price(9, HD), 1.0, running_s=0.3, following=1).overhead_s is None
    assert Measurement.of(Price(9, HD), 1.0, running_s=0.5, following=8).overhead_s == pytest.approx(0.4375)


def test_measurements_of_an_older_program_are_kept_and_it_goes_on_writing_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "upres.sqlite3"
    old = "INSERT INTO throughput (model, device, pixels, frames, seconds, at) VALUES ('compact', '', 1000, 100, 5, 0)"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection, monkeypatch.context() as older:
        older.setattr(migrations, "MIGRATIONS", migrations.MIGRATIONS[:4])
        migrations.migrate(connection)
        connection.execute(old)
        older.undo()
        with closing(Database(path)) as database:
            database.query("SELECT 1")
            connection.execute(old)
            assert Throughput(database).times("compact", Price(200, 1000)) == Times((10.0, 10.0))
