"""When a worker counts as stuck: pulses and a clock, no process."""

from __future__ import annotations

from upres.fleet.stopwatch import FIRST_FRAME_FACTOR, LONGEST_STEP_FACTOR, START_S, Stopwatch
from upres.queue.workers import Pulse

LIMIT_S = 100.0


def pulse(done: int = 0, *, task: str | None = "a", owed: bool = True, mark: str = "") -> Pulse:
    return Pulse(owed=owed, task_id=task, frames_done=done, mark=(task, done, mark))


def watched(*seen: tuple[float, Pulse]) -> float | None:
    """What the last pulse was told."""
    watch, said = Stopwatch(LIMIT_S, 0.0), None
    for at_s, what in seen:
        said = watch.stuck_s(what, at_s)
    return said


def test_a_task_that_gets_on_is_never_stuck() -> None:
    assert watched(*((99.0 * step, pulse(step)) for step in range(50))) is None


def test_a_task_whose_frames_stop_coming_is_stuck_after_the_limit() -> None:
    assert watched((0, pulse(1)), (100, pulse(1))) is None
    assert watched((0, pulse(1)), (101, pulse(1))) == 101


def test_loading_and_a_long_first_window_have_longer() -> None:
    assert watched((0, pulse()), (LIMIT_S * FIRST_FRAME_FACTOR, pulse())) is None
    assert watched((0, pulse()), (LIMIT_S * FIRST_FRAME_FACTOR + 1, pulse())) is not None


def test_a_task_of_long_steps_sets_its_own_limit() -> None:
    slow = ((0, pulse(1)), (50, pulse(2)))
    assert watched(*slow, (50 + 50 * LONGEST_STEP_FACTOR, pulse(2))) is None
    assert watched(*slow, (51 + 50 * LONGEST_STEP_FACTOR, pulse(2))) is not None


def test_an_idle_worker_is_never_stuck_and_its_time_does_not_count_later() -> None:
    idle = pulse(task=None, owed=False)
    assert watched((0, idle), (10_000, idle)) is None
    assert watched((0, idle), (10_000, idle), (10_001, pulse(task=None, owed=True))) is None


def test_a_worker_that_leaves_waiting_tasks_alone_is_stuck() -> None:
    waiting = pulse(task=None)
    assert watched((0, waiting), (LIMIT_S * FIRST_FRAME_FACTOR + 1, waiting)) is not None


def test_a_worker_may_take_minutes_to_start_however_short_the_limit() -> None:
    watch = Stopwatch(2.0, 0.0)
    assert watch.stuck_s(pulse(task=None), 0.0) is None
    assert watch.stuck_s(pulse(task=None), START_S) is None
    assert watch.stuck_s(pulse(task=None), START_S + 1) is not None


def test_the_next_task_starts_anew() -> None:
    slow = ((0, pulse(1)), (50, pulse(2)), (60, pulse(1, task="b")))
    assert watched(*slow, (161, pulse(1, task="b"))) == 101
