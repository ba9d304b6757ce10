"""The store against a model of a few lines of Python, by random steps. What the model says, the store promises."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from upres.errors import QueueFull, TaskCancelled, TaskLost, UpresError
from upres.queue.database import Database
from upres.queue.store import Claim, NewTask, TaskStore
from upres.queue.workers import WorkerTable
from upres.tasks import Failure, Progress, Result, TaskSpec

MAX_ATTEMPTS, MAX_QUEUED = 3, 6
SLOTS = ("cpu", "gpu-a")
STEPS_A_RUN = 50
RESULT = Result(output_path="/o.mp4", width=2, height=2, frames=9, model="m", device="d", process_time_s=1.0)
COUNTED = {"steps": 0}


@dataclass
class Modelled:
    order: tuple[int, int]  # by priority, then by age
    state: str = "queued"
    attempt: int = 0
    token: int = 0
    slot: str | None = None
    cancel: bool = False
    done: int = 0
    loading: bool = False  # nothing was reported by the claim's owner yet
    published: list[int] = field(default_factory=list)  # tokens


class StoreMachine(RuleBasedStateMachine):
    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        self.database = Database(Path(self.folder.name) / "upres.sqlite3")
        self.store, self.workers = TaskStore(self.database), WorkerTable(self.database)
        self.tasks: dict[str, Modelled] = {}
        self.keys: dict[str, str] = {}
        self.claims: list[Claim] = []

    def teardown(self) -> None:
        self.database.close()
        self.folder.cleanup()

    @rule(key=st.sampled_from([None, None, None, "a", "b", "c"]), priority=st.integers(-1, 1))
    def add(self, key: str | None, priority: int) -> None:
        new = NewTask(TaskSpec(input_path="x"), "video", "m", 9, 100, key, priority)
        if key in self.keys:
            assert self.store.add(new, MAX_QUEUED).id == self.keys[str(key)]
            return
        if sum(task.state == "queued" for task in self.tasks.values()) >= MAX_QUEUED:
            assert _raised(lambda: self.store.add(new, MAX_QUEUED)) is QueueFull
            return
        task = self.store.add(new, MAX_QUEUED)
        assert task.id not in self.tasks
        self.tasks[task.id] = Modelled((-priority, len(self.tasks)))
        if key is not None:
            self.keys[key] = task.id

    @rule(slot=st.sampled_from(SLOTS))
    def claim(self, slot: str) -> None:
        claim = self.store.claim(slot)
        queued = [(task.order, i) for i, task in self.tasks.items() if task.state == "queued"]
        if not queued:
            assert claim is None
            return
        assert claim is not None and claim.task.id == min(queued)[1]
        task = self.tasks[claim.task.id]
        task.state, task.slot, task.done, task.loading = "processing", slot, 0, True
        task.attempt, task.token = task.attempt + 1, task.token + 1
        assert (claim.token, claim.task.attempt) == (task.token, task.attempt)
        self.claims.append(claim)

    @rule(pick=st.integers(0, 99), deed=st.sampled_from(["beat", "beat", "complete", "fail", "give back", "end"]))
    def work(self, pick: int, deed: str) -> None:
        """By any claim there ever was: only the last one of a running task may write."""
        if not self.claims:
            return
        claim = self.claims[pick % len(self.claims)]
        task = self.tasks[claim.task.id]
        lost = task.state != "processing" or task.token != claim.token
        expected = TaskLost if lost else TaskCancelled if task.cancel and deed in ("beat", "complete") else None
        assert _raised(lambda: self._do(deed, claim, task)) is expected
        if expected is TaskCancelled and deed == "beat":
            task.done += 1
        if deed == "beat" and not lost:
            task.loading = False
        if expected is None:
            if deed == "give back" and task.cancel:
                deed = "end"
            after = {"beat": "processing", "complete": "completed", "fail": "failed", "give back": "queued",
                     "end": "cancelled"}[deed]  # fmt: skip
            task.done = {"beat": task.done + 1, "give back": 0}.get(deed, task.done)
            task.attempt -= deed == "give back"
            task.state, task.slot = after, task.slot if deed == "beat" else None

    def _do(self, deed: str, claim: Claim, task: Modelled) -> None:
        match deed:
            case "beat":
                self.store.heartbeat(claim, Progress(frames_done=task.done + 1))
            case "complete":
                self.store.complete(claim, RESULT, lambda: task.published.append(claim.token))
            case "fail":
                self.store.fail(claim, Failure(code="x", message="y"))
            case "give back":
                self.store.give_back(claim)
            case "end":
                self.store.end_cancelled(claim)

    @rule(pick=st.integers(0, 99))
    def cancel(self, pick: int) -> None:
        if not self.tasks:
            return
        task_id = sorted(self.tasks)[pick % len(self.tasks)]
        self.store.cancel(task_id)
        task = self.tasks[task_id]
        if task.state in ("queued", "processing"):
            task.cancel = True
        if task.state == "queued" or (task.state == "processing" and task.loading):
            task.state, task.slot = "cancelled", None

    @rule(slot=st.sampled_from(SLOTS))
    def lose_a_worker(self, slot: str) -> None:
        orphans = {task.id for task in self.store.requeue_orphans(slot, MAX_ATTEMPTS)}
        held = {i for i, task in self.tasks.items() if task.state == "processing" and task.slot == slot}
        assert orphans == held
        for task in (self.tasks[i] for i in held):
            spent = task.attempt >= MAX_ATTEMPTS
            task.state = "cancelled" if task.cancel else "failed" if spent else "queued"
            task.slot, task.done = None, 0 if task.state == "queued" else task.done

    @rule()
    def look_from_another_connection(self) -> None:
        other = Database(self.database.path)
        assert TaskStore(other).totals() == self.store.totals()
        other.close()

    @invariant()
    def agree(self) -> None:
        COUNTED["steps"] += 1
        seen = {row["id"]: row for row in self.database.query("SELECT * FROM tasks")}
        assert seen.keys() == self.tasks.keys()
        for i, task in self.tasks.items():
            row = seen[i]
            assert (row["state"], row["attempt"], row["token"], row["slot"], bool(row["cancel"])) == (
                task.state, task.attempt, task.token, task.slot, task.cancel)  # fmt: skip
            assert self.store.get(i).progress.frames_done == task.done
            assert task.published == ([task.token] if task.state == "completed" else [])
        queued = sorted((task.order, i) for i, task in self.tasks.items() if task.state == "queued")
        assert [w.id for w in self.store.line()][-len(queued) or len(seen):] == [i for _, i in queued]
        work = self.workers.pulse("none").owed
        assert work == bool(queued)


def run_steps(steps: int) -> int:
    """Runs at least that many; returns how many. Raises AssertionError with the shortest way to a disagreement."""
    COUNTED["steps"] = 0
    while COUNTED["steps"] < steps:
        runs = max(1, (steps - COUNTED["steps"]) // (STEPS_A_RUN // 2))
        run_state_machine_as_test(  # type: ignore[no-untyped-call]
            StoreMachine, settings=settings(max_examples=runs, stateful_step_count=STEPS_A_RUN, deadline=None,
                                            database=None, suppress_health_check=list(HealthCheck)),
        )  # fmt: skip
    return COUNTED["steps"]


def _raised(call: object) -> type[UpresError] | None:
    try:
        call()  # type: ignore[operator]
    except UpresError as error:
        return type(error)
    return None
