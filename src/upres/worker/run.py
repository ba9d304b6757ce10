"""One task from its input file to a finished file that only waits to be renamed. Knows nothing of the store."""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path

from upres.errors import InvalidParameter, TaskCancelled
from upres.models.restorer import Restorer
from upres.queue.store import Claim, Price
from upres.queue.throughput import Measurement
from upres.restore.meter import Report
from upres.restore.pipeline import Outcome, restore
from upres.settings import Settings
from upres.tasks import Result, Task
from upres.worker.loop import Finished

MAX_STEM = 80  # characters of the input's name kept in a generated name


def run_task(
    claim: Claim, restorer: Restorer, settings: Settings, device_name: str, report: Report, room_bytes: int
) -> Finished:
    """Raises what the pipeline raises; no file of this attempt is left then but finished segments, from which the next
    attempt goes on: only a cancelled task leaves none.
    """
    task, began = claim.task, time.monotonic()
    assert task.started_at is not None  # the claim set it
    part, work = _part_path(claim, settings), work_folder(task.id, settings)
    try:
        outcome = restore(task.spec, restorer, part, report, room_bytes, work=work, model=task.model,
                          segment_frames=settings.segment_frames)  # fmt: skip
    except TaskCancelled:
        shutil.rmtree(work, ignore_errors=True)
        raise
    seconds = time.monotonic() - began
    final = _final_path(task, outcome, seconds, settings)
    result = Result(
        output_path=str(final), width=outcome.size.width, height=outcome.size.height, frames=outcome.frames,
        model=task.model, device=device_name, process_time_s=time.time() - task.started_at, restore_time_s=seconds,
        fps=round(outcome.fps, 3), size_bytes=part.stat().st_size, audio=outcome.audio, warnings=outcome.warnings,
    )  # fmt: skip
    replace = task.spec.overwrite or task.spec.output_path is None

    def publish() -> None:
        _publish(part, final, replace)
        shutil.rmtree(work, ignore_errors=True)

    took = Measurement.of(Price(outcome.made, outcome.size.pixels), seconds, outcome.running_s, outcome.following)
    return Finished(result, publish, lambda: part.unlink(missing_ok=True), took if outcome.made else None)


def work_folder(task_id: str, settings: Settings) -> Path:
    """Where a task's segments are until it is published, whichever worker makes them."""
    return settings.work_dir / task_id


def own_folder(task: Task, settings: Settings) -> Path:
    """Where a task's results lie unless its order says otherwise."""
    return settings.output_dir / task.id


def _part_path(claim: Claim, settings: Settings) -> Path:
    """Beside the final file, so that publishing is a rename. Leftovers of dead attempts are swept first."""
    task = claim.task
    folder = Path(task.spec.output_path).parent if task.spec.output_path is not None else own_folder(task, settings)
    folder.mkdir(parents=True, exist_ok=True)
    final = Path(task.spec.output_path) if task.spec.output_path is not None else None
    for old in folder.glob(f".{task.id}.*.part*"):
        if final is not None and final.exists() and final.samefile(old):
            final.unlink()  # put in place by an attempt that died before it could say so
        old.unlink(missing_ok=True)
    for published in folder.glob("[!.]*") if final is None else ():  # likewise, in the task's own folder
        published.unlink()
    return folder / f".{task.id}.{claim.token}.part"


def _final_path(task: Task, outcome: Outcome, seconds: float, settings: Settings) -> Path:
    """The caller's path, or `<name>_<model>_<short side>p_b<window>_c<colour>_s<seed>_<seconds>s`."""
    spec, target = task.spec, outcome.size
    if spec.output_path is not None:
        return Path(spec.output_path)
    stem = re.sub(r"[^\w\-. ]", "_", Path(spec.input_path).stem)[:MAX_STEM].strip(". ") or "output"
    model = task.model.removeprefix("seedvr2_ema_").removesuffix(".safetensors").removesuffix(".gguf")
    name = (f"{stem}_{model}_{min(target.height, target.width)}p_b{spec.batch_size}_c{spec.color_correction}"
            f"_s{spec.seed}_{round(seconds)}s{outcome.suffix}")  # fmt: skip
    return own_folder(task, settings) / name


def _publish(part: Path, final: Path, replace: bool) -> None:
    """Atomic; where nothing may be replaced a hard link is made, which unlike a rename refuses to."""
    if replace:
        os.replace(part, final)
    else:
        try:
            os.link(part, final)
        except FileExistsError:
            raise InvalidParameter(f"{final} exists by now", remedy="allow overwriting or choose another") from None
    if hasattr(os, "O_DIRECTORY"):
        folder = os.open(final.parent, os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
