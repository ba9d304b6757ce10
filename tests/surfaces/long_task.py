"""A task that no test is patient enough to see finished; cancelled at the end."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import make_video
from tests.surfaces.serving import until
from upres.engine import Engine
from upres.tasks import TaskSpec, TaskState


@contextmanager
def running_long_task(engine: Engine, folder: Path) -> Iterator[str]:
    video = folder / "long.mp4"  # 500 frames of 960x720: minutes on one core
    if not video.exists():
        make_video(video, frames=500, size="160x120", sound=False)
    task_id = engine.submit(TaskSpec(input_path=str(video), resolution=720)).id
    try:
        until(lambda: engine.status(task_id).state is TaskState.PROCESSING, "the long task runs")
        yield task_id
    finally:
        engine.cancel(task_id)
    assert engine.wait(task_id, timeout_s=60).state is TaskState.CANCELLED
