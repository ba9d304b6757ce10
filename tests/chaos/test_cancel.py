"""Cancels at many moments: soon obeyed, nothing left; and two versions of Upres on one store."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

from tests.chaos.arena import ROOT, Arena, until
from upres.engine import LocalEngine
from upres.fleet.supervisor import newer
from upres.queue.database import Database
from upres.queue.store import NewTask, TaskStore
from upres.tasks import TaskSpec, TaskState
from upres.version import __version__

QUEUED_S, RUNNING_S = 1.0, 2.0
PATIENCE_S = 60.0


def test_a_cancel_is_obeyed_soon_wherever_it_falls_and_leaves_no_file(arena: Arena, engine: LocalEngine) -> None:
    """Twenty tasks; a machine that is busy with other things is granted what the tasks themselves get."""
    dice = random.Random(4)
    order = TaskSpec(input_path=str(arena.folder / "input.png"), resolution=32)
    assert engine.wait(engine.submit(order).id, PATIENCE_S).state is TaskState.COMPLETED  # the worker is warm
    waits: dict[TaskState, list[float]] = {}
    for _ in range(20):
        task = engine.submit(order)
        threading.Event().wait(dice.uniform(0, 0.12))
        before = engine.cancel(task.id)
        began = time.monotonic()
        ended = engine.wait(task.id, PATIENCE_S)
        waits.setdefault(before.state, []).append(time.monotonic() - began)
        assert ended.state in (TaskState.CANCELLED, TaskState.COMPLETED)
        if ended.state is TaskState.CANCELLED:
            assert not any((arena.settings.output_dir / task.id).glob("*")), "a file is left"
    assert max(waits.get(TaskState.CANCELLED, [0.0])) <= QUEUED_S
    assert sorted(waits.get(TaskState.PROCESSING, [0.0]))[len(waits.get(TaskState.PROCESSING, [0.0])) // 2] <= RUNNING_S


def test_a_task_is_cancelled_while_its_model_loads_and_the_worker_goes_on(arena: Arena, engine: LocalEngine) -> None:
    slow = arena.settings.data_dir / "slow"
    slow.touch()
    order = TaskSpec(input_path=str(arena.folder / "input.png"), resolution=32)
    task = engine.submit(order)
    while task.progress.phase != "loading":
        task = engine.wait(task.id, PATIENCE_S, seen=task)
    assert engine.cancel(task.id).state is TaskState.CANCELLED
    assert engine.gpu().current_task is None
    following, pid = engine.submit(order), engine.gpu().worker_pid
    slow.unlink()
    assert engine.wait(following.id, PATIENCE_S).state is TaskState.COMPLETED
    assert engine.gpu().worker_pid == pid
    assert not (arena.settings.output_dir / task.id).exists()


OLDER = """
import sys
from pathlib import Path
from upres.queue.database import Database
from upres.queue.store import NewTask, TaskStore
from upres.tasks import TaskSpec
from upres.version import __version__
store = TaskStore(Database(Path(sys.argv[1])))
task = store.add(NewTask(TaskSpec(input_path=sys.argv[2]), "image", "compact", 1, 100))
seen = [other.spec.input_path for other in store.unfinished()]
try:
    print(__version__, task.id, store.claim("cpu").task.id, len(seen))
except Exception as error:
    print(__version__, task.id, type(error).__name__, len(seen))
"""


def test_two_versions_share_a_store_and_the_older_leaves_what_it_does_not_understand(tmp_path: Path) -> None:
    """The older one is this program without a parameter, and with another version."""
    source = ROOT / "src" / "upres"
    for folder in ("queue", "errors.py", "tasks.py", "__init__.py"):
        target = tmp_path / "older" / "upres" / folder
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source / folder, target) if (source / folder).is_dir() else shutil.copy(source / folder, target)
    older = tmp_path / "older" / "upres"
    (older / "version.py").write_text('__version__ = "0.0.9"\n')
    (older / "__init__.py").write_text("")
    tasks = (older / "tasks.py").read_text("utf-8")
    (line,) = [line for line in tasks.splitlines() if line.startswith("    kv_ratio:")]
    (older / "tasks.py").write_text(tasks.replace(line + "\n", ""), "utf-8")
    path = tmp_path / "upres.sqlite3"
    store = TaskStore(Database(path))
    ours = store.add(NewTask(TaskSpec(input_path="ours", kv_ratio=5), "image", "compact", 1, 100))
    run = subprocess.run([sys.executable, "-c", OLDER, str(path), "theirs"], capture_output=True, text=True,
                         env={"PYTHONPATH": str(tmp_path / "older")})  # fmt: skip
    version, theirs, claimed, seen = run.stdout.split()
    assert (version, claimed, seen) == ("0.0.9", "Outdated", "2"), run.stderr
    assert [task.id for task in store.unfinished()] == [ours.id, theirs]  # both wait, whole
    claim = store.claim("cpu")
    assert claim is not None and claim.task.spec.kv_ratio == 5
    after = store.claim("gpu-a")
    assert after is not None and after.task.id == theirs
    assert after.task.spec.kv_ratio == TaskSpec(input_path="").kv_ratio


def test_a_newer_program_has_an_older_worker_leave_after_its_task(arena: Arena, engine: LocalEngine) -> None:
    order = TaskSpec(input_path=str(arena.folder / "input.png"), resolution=32)
    assert engine.wait(engine.submit(order).id, PATIENCE_S).state is TaskState.COMPLETED
    database = Database(arena.settings.data_dir / "upres.sqlite3")
    with database.write("test") as tx:
        tx.execute("UPDATE workers SET version = '0.0.9'")
    (before,) = database.query("SELECT pid FROM workers")
    task = engine.submit(order)
    assert engine.wait(task.id, PATIENCE_S).state is TaskState.COMPLETED
    until(lambda: database.query("SELECT pid FROM workers")[0]["pid"] != before["pid"] or not engine.submit(order),
          "a worker of this version")  # fmt: skip
    database.close()


def test_versions_are_compared_by_their_numbers() -> None:
    assert newer("0.10.0", "0.9.9") and newer("1.0", "0.9") and not newer("0.1.0", "0.1.0")
    assert not newer("0.1.0", "0.2.0") and not newer(__version__, "")
