"""The short form of `make chaos`, and a check of the checker: it must see every kind of broken promise."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.arena import Arena
from tests.chaos.checker import judge
from tests.chaos.oplog import read
from tests.chaos.races import idle_exits, one_owner
from tests.chaos.store_model import run_steps
from tests.chaos.storm import Storm, Weather
from upres.engine import LocalEngine

SHA = "0" * 64


def test_a_storm_of_kills_and_takeovers_breaks_no_promise(arena: Arena, engine: LocalEngine) -> None:
    it = Storm(arena, Weather(tasks=30, kills=8, takeovers=2, submitters=3, seed=5, timeout_s=120), engine)
    it.blow()
    verdict = judge(read(arena.folder / "operations.log"))
    assert verdict.kept and verdict.tasks == 30, verdict
    assert it.done["worker"] and it.done["submitter"], it.done


def test_a_thousand_random_steps_of_the_store_agree_with_a_model() -> None:
    assert run_steps(1000) >= 1000


def test_of_sixteen_workers_started_at_once_one_owns_the_slot(tmp_path: Path) -> None:
    assert one_owner(tmp_path)


def test_submits_that_race_idle_exits_all_run() -> None:
    assert idle_exits(8, lanes=2)


def good_history() -> list[dict[str, Any]]:
    history: list[dict[str, Any]] = []
    for number in range(3):
        facts = {"id": f"task{number}", "token": 2, "pid": 7, "slot": "cpu"}
        history += [
            {"op": "submit", "key": f"k{number}", "pid": 1},
            {"op": "acknowledged", "key": f"k{number}", "id": facts["id"], "pid": 1},
            {"op": "claim", **facts, "token": 1, "attempt": 1, "pid": 6},
            {"op": "noticed", "seconds": 0.1, "pid": 1},
        ]  # fmt: skip
    for number in range(3):
        facts = {"id": f"task{number}", "token": 2, "pid": 7, "slot": "cpu"}
        history += [{"op": "claim", **facts, "attempt": 2}, {"op": "publish", **facts, "sha": SHA},
                    {"op": "completed", **facts},
                    {"op": "final", "key": f"k{number}", "id": facts["id"], "state": "completed", "whole": True,
                     "sha": SHA, "code": None, "pid": 1}]  # fmt: skip
    return history


def test_the_checker_finds_nothing_wrong_with_a_good_history() -> None:
    assert judge(good_history()).kept


def test_a_process_number_given_out_anew_is_another_owner() -> None:
    claim = {"op": "claim", "id": "task9", "token": 1, "attempt": 1, "slot": "cpu", "pid": 6}
    assert not judge([*good_history(), claim]).kept
    assert judge([*good_history(), {"op": "owner", "slot": "cpu", "pid": 6}, claim]).kept


@pytest.mark.parametrize(
    ("fault", "event"),
    [
        ("lost", {"op": "acknowledged", "key": "k1", "id": "another"}),
        ("doubled", {"op": "final", "key": "k1", "id": "twin", "state": "completed", "whole": True, "sha": SHA}),
        ("unfinished", {"op": "final", "key": "k1", "id": "t9", "state": "queued", "whole": False, "code": ""}),
        ("torn", {"op": "final", "key": "k1", "id": "task1", "state": "completed", "whole": False, "sha": SHA}),
        ("torn", {"op": "publish", "id": "task1", "token": 2, "sha": "1" * 64}),
        ("strays", {"op": "stray", "path": "x"}),
        ("completed_twice", {"op": "completed", "id": "task1", "token": 2}),
        ("written_by_stale_owners", {"op": "publish", "id": "task1", "token": 1, "sha": SHA}),
        ("two_owners", {"op": "claim", "id": "task9", "token": 1, "attempt": 1, "slot": "cpu", "pid": 6}),
        ("notice_p99_s", {"op": "noticed", "seconds": 2.5}),
    ],
)  # fmt: skip
def test_the_checker_sees_a_broken_promise(fault: str, event: dict[str, Any]) -> None:
    history = [*copy.deepcopy(good_history()), event]
    verdict = judge(history)
    assert not verdict.kept and getattr(verdict, fault) > 0, verdict
