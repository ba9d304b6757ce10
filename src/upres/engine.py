"""The facade every surface calls. Synchronous and thread-safe; knows nothing of torch, HTTP or MCP."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection
from pathlib import Path
from typing import Protocol

import psutil

from upres import forecast
from upres.catalog import Catalog
from upres.catalog.model import Model
from upres.disk import Disk
from upres.errors import (
    OutputMissing,
    TaskNotCompleted,
    TaskNotFinished,
    WorkerFailed,
)
from upres.fleet.slots import cpu_cores, gpu_memory
from upres.fleet.supervisor import WORKER_MODULE, Supervisor
from upres.forecast import Machine
from upres.forecast_values import AUTO, Forecast, MediaFacts
from upres.intake import checked_output, facts_of, looked_at, with_encoder
from upres.limits import beneath, check_disk, check_key, check_priority, check_size
from upres.line import Line, placed
from upres.media.output import output_for
from upres.pictures.values import Comparison, Excerpt, Focus
from upres.queue.database import Database
from upres.queue.store import NewTask, Price, TaskStore
from upres.queue.throughput import Throughput
from upres.queue.workers import WorkerTable
from upres.restore.memory import MB, room_bytes
from upres.restore.plan import Size, plan_clip
from upres.settings import Settings
from upres.tasks import GpuStatus, ModelList, QueueStatus, Task, TaskPage, TaskSpec, TaskState

POLL_S = 0.2
SWITCH_PATIENCE_S = 600.0  # 16 GB from a slow disk
PREVIEW_PRIORITY = 10  # somebody is looking at the screen
ALL_STATES = tuple(TaskState)


class Engine(Protocol):
    """The verbs of Upres. `LocalEngine` works on this machine's store, `remote.RemoteEngine` on another server."""

    def submit(self, spec: TaskSpec, *, key: str | None = None, priority: int = 0) -> Task:
        """Checks the order, stores it durably and returns at once. The same `key` returns the same task.

        Tasks of a higher `priority` (-100…100) run first, those of the same in the order of their submits; while
        higher ones keep coming, lower ones wait. Raises FileMissing, InvalidInput, UnsupportedMedia, InvalidParameter,
        ModelNotFound, PathRefused, TaskTooLarge, QueueFull, DiskFull, StoreUnusable.
        """

    def status(self, task_id: str) -> Task:
        """Raises TaskNotFound."""

    def probe(self, path: str) -> MediaFacts:
        """What a file is. Raises FileMissing, InvalidInput, UnsupportedMedia."""

    def plan(self, spec: TaskSpec) -> Forecast:
        """A dry run of `submit`: nothing is stored. Raises what `submit` raises about the order and its file."""

    def plan_for(self, media: MediaFacts, spec: TaskSpec) -> Forecast:
        """The same for a file that need not be here. Raises ModelNotFound, InvalidParameter."""

    def sample(self, spec: TaskSpec, excerpt: Excerpt) -> Task:
        """Submits a short piece of the file, before all that waits; `compare` then shows it. Raises as `submit`."""

    def compare(
        self, task_id: str, *, at_s: float | None = None, focus: Focus = "auto", against: str | None = None
    ) -> Comparison:
        """A moment of a task's input (or of the result of `against`) and of its result, as far as there is one: of a
        running task without `against`, what is restored so far. Of a preview, moments are those of the whole file.

        Raises TaskNotFound, TaskNotCompleted, OutputMissing, FileMissing, PathRefused, InvalidParameter.
        """

    def sheet(self, task_id: str) -> bytes:
        """A completed task's result at a glance, JPEG. Raises TaskNotFound, TaskNotCompleted, OutputMissing."""

    def wait(self, task_id: str, timeout_s: float | None = None, *, seen: Task | None = None) -> Task:
        """Blocks until the task is finished or `timeout_s` passed; with `seen`, also until it differs from `seen`.

        Returns the task as it then is, finished or not. Raises TaskNotFound.
        """

    def cancel(self, task_id: str) -> Task:
        """A queued task is cancelled at once, a running one within a window. Finished ones stay as they are."""

    def retry(self, task_id: str) -> Task:
        """Submits a finished task's order again, as a new task. Raises TaskNotFound, TaskNotFinished, and as submit."""

    def remove(self, task_id: str) -> Task:
        """Forgets a task and deletes its files, but for those at paths the caller chose: an input that was not
        uploaded, an `output_path`. A running task is stopped first. Returns it as it was. Raises TaskNotFound.
        """

    def output(self, task_id: str) -> Path:
        """The result's file. Raises TaskNotFound, TaskNotCompleted, OutputMissing."""

    def preview(self, task_id: str) -> bytes:
        """The result's first frame as JPEG. Raises what `output` raises, and what `probe` and decoding raise."""

    def tasks(self, states: Collection[TaskState] = ALL_STATES, page: int = 1, page_size: int = 20) -> TaskPage:
        """Tasks in any of these states, newest first; pages count from 1."""

    def queue(self) -> QueueStatus: ...

    def history(self, limit: int = 20) -> list[Task]:
        """Finished tasks, newest first."""

    def models(self) -> ModelList: ...

    def switch(self, model: str) -> str:
        """Loads `model` into the worker; returns its name once resident. Raises ModelNotFound, WorkerFailed."""

    def offload(self) -> str:
        """Ends every idle worker, so that its device memory is free; returns what was done. Raises GpuBusy."""

    def gpu(self) -> GpuStatus: ...


class LocalEngine:
    """The engine on this machine's store and workers. Any number of processes may hold one."""

    def __init__(self, settings: Settings, worker: str = WORKER_MODULE) -> None:
        """`worker` is the module that runs tasks. Raises StoreUnusable, InvalidSetting."""
        database = Database(settings.data_dir / "upres.sqlite3")
        self.settings = settings
        self.catalog = Catalog(settings.model_dir)
        self._database = database
        self._store, self._workers, self._throughput = TaskStore(database), WorkerTable(database), Throughput(database)
        self.supervisor = Supervisor(settings, self._store, self._workers, worker)
        self._line = Line(self._store, self._throughput, self.catalog, lanes=len(self.supervisor.slots),
                          cores=0 if self.supervisor.slots[0].uuid else cpu_cores(settings.threads),
                          loaded=self._loaded)  # fmt: skip

    def close(self) -> None:
        """Closes the store. Workers and tasks go on."""
        self.supervisor.close()
        self._database.close()

    def submit(self, spec: TaskSpec, *, key: str | None = None, priority: int = 0) -> Task:
        check_key(key)
        check_priority(priority)
        known = self._store.keyed(key) if key is not None else None
        if known is not None:
            return self.status(known.id)
        info = looked_at(spec, self.settings.all_roots, max_s=self.settings.max_hours * 3600)
        spec, _ = with_encoder(spec, info, self.supervisor.gpus)
        media = MediaFacts.of(info)
        model = self._chosen(media, spec)
        output = output_for(spec, info)
        plan = plan_clip(Size(info.height, info.width), info.frames, info.kind, spec, model.limits,
                         even=output.even, sample_aspect=info.sample_aspect)  # fmt: skip
        output.check_size(plan.frame.width, plan.frame.height)
        preset = forecast.preset_for(spec, output, model, on_gpu=bool(self.supervisor.slots[0].uuid),
                                     cores=cpu_cores(self.settings.threads))  # fmt: skip
        update: dict[str, object] = {"input_path": str(info.path), "kind": info.kind, "preset": preset}
        folder = self.settings.output_dir
        if spec.output_path is not None:
            path = checked_output(spec, info, self.settings.all_roots)
            update["output_path"], folder = str(path), path.parent
        price = Price(info.frames, plan.target.pixels)
        check_size(price, self.settings)
        result_bytes = output.result_bytes(plan.frame.pixels, info.frames, media.duration_s * len(media.audio))
        check_disk(self._disk(folder), result_bytes, output.work_bytes(result_bytes))
        new = NewTask(spec.model_copy(update=update), info.kind, model.name, price.frames, price.pixels, key, priority,
                      facts=facts_of(info, plan))  # fmt: skip
        task = self._store.add(new, self.settings.max_queued)
        self.supervisor.ensure(at_once=True)
        return self._in_line(task)  # queued, even if a worker has taken it since

    def retry(self, task_id: str) -> Task:
        task = self._store.get(task_id)
        if not task.state.finished:
            raise TaskNotFinished(f"task {task_id} is {task.state}", remedy="wait for it, or cancel it first")
        return self.submit(task.spec)

    def probe(self, path: str) -> MediaFacts:
        return MediaFacts.of(looked_at(TaskSpec(input_path=path), self.settings.all_roots))

    def plan(self, spec: TaskSpec) -> Forecast:
        info = looked_at(spec, self.settings.all_roots, max_s=self.settings.max_hours * 3600)
        if spec.output_path is not None:
            checked_output(spec, info, self.settings.all_roots)
        return self.plan_for(MediaFacts.of(info), spec)

    def plan_for(self, media: MediaFacts, spec: TaskSpec) -> Forecast:
        spec, note = with_encoder(spec, media.info(), self.supervisor.gpus)
        found = forecast.forecast(media, spec, self.catalog, self._throughput.times, self._machine(spec))
        return found.model_copy(update={"warnings": (*found.warnings, note)}) if note else found

    def sample(self, spec: TaskSpec, excerpt: Excerpt) -> Task:
        from upres.pictures.verbs import cut_for_preview, preview_frames

        info = looked_at(spec, self.settings.all_roots)
        whole = self.plan_for(MediaFacts.of(info), spec)
        share = excerpt.box(info)[2].pixels / (info.width * info.height)
        frames = preview_frames(info, excerpt, whole.work.likely_s / whole.frames * share)
        with cut_for_preview(info, spec, excerpt, frames, self.settings.upload_dir) as order:
            return self.submit(order.model_copy(update={"dit_model": whole.model}), priority=PREVIEW_PRIORITY)

    def compare(
        self, task_id: str, *, at_s: float | None = None, focus: Focus = "auto", against: str | None = None
    ) -> Comparison:
        from upres.pictures.verbs import Footage, compare, compare_unfinished

        task = self._store.get(task_id)
        source = Path(task.spec.input_path)
        if against is None and source.exists():  # another program, or another time, may have accepted it
            beneath(source, self.settings.all_roots)
        before = Footage.of(source, source)
        if task.state is TaskState.PROCESSING and against is None:
            early = compare_unfinished(before, self.settings.work_dir / task_id, at_s, focus)
            if early is not None:
                return early
        after = Footage.of(self.output(task_id), source)
        if against is not None:
            before = Footage.of(self.output(against), Path(self._store.get(against).spec.input_path))
        return compare(before, after, at_s, focus)

    def sheet(self, task_id: str) -> bytes:
        from upres.pictures.verbs import sheet

        return sheet(self.output(task_id))

    def status(self, task_id: str) -> Task:
        self.supervisor.ensure()
        seen = self._line.look()
        task = next((task for task in seen.queue.unfinished if task.id == task_id), None)
        return placed(task, seen.places[task_id]) if task is not None else self._store.get(task_id)

    def _in_line(self, task: Task) -> Task:
        return placed(task, self._line.look().places.get(task.id)) if not task.state.finished else task

    def wait(self, task_id: str, timeout_s: float | None = None, *, seen: Task | None = None) -> Task:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            self.supervisor.ensure()
            task = self._store.get(task_id)
            changed = seen is not None and (task.state, task.progress) != (seen.state, seen.progress)
            if task.state.finished or changed or (deadline is not None and time.monotonic() >= deadline):
                return self._in_line(task)
            time.sleep(POLL_S if deadline is None else max(0.0, min(POLL_S, deadline - time.monotonic())))

    def cancel(self, task_id: str) -> Task:
        return self._store.cancel(task_id)

    def remove(self, task_id: str) -> Task:
        """The row goes first: whatever the task's worker writes from then on is refused, and the worker tidies up."""
        task = self._store.remove(task_id)
        upload = Path(task.spec.input_path).parent
        if upload.parent == self.settings.upload_dir and not self._store.reads(task.spec.input_path):
            shutil.rmtree(upload, ignore_errors=True)
        for folder in self.settings.folders_of(task.id):
            shutil.rmtree(folder, ignore_errors=True)
        return task

    def output(self, task_id: str) -> Path:
        task = self._store.get(task_id)
        if task.result is None:
            raise TaskNotCompleted(f"task {task_id} is {task.state}", remedy=task.state.without_result)
        path = Path(task.result.output_path)
        if not path.is_file():
            raise OutputMissing(f"{path.name} of task {task_id} is gone", remedy="submit the input again")
        return path

    def preview(self, task_id: str) -> bytes:
        from upres.pictures.verbs import first_frame

        return first_frame(self.output(task_id))

    def tasks(self, states: Collection[TaskState] = ALL_STATES, page: int = 1, page_size: int = 20) -> TaskPage:
        self.supervisor.ensure()
        found = self._store.page(states, page, page_size)
        places = self._line.look().places
        return found.model_copy(update={"tasks": tuple(placed(task, places.get(task.id)) for task in found.tasks)})

    def queue(self) -> QueueStatus:
        self.supervisor.ensure()
        seen = self._line.look()
        line = [placed(task, seen.places[task.id]) for task in seen.queue.unfinished]
        times = [task.result.process_time_s for task in seen.queue.finished if task.result is not None]
        totals = seen.queue.totals
        return QueueStatus(
            processing=tuple(task for task in line if task.state is TaskState.PROCESSING),
            pending=tuple(task for task in line if task.state is TaskState.QUEUED),
            total_completed=totals.get(TaskState.COMPLETED, 0), total_failed=totals.get(TaskState.FAILED, 0),
            avg_process_time_s=sum(times) / len(times) if times else 0.0,
            estimated_total_wait_s=seen.longest_wait_s(),
        )  # fmt: skip

    def history(self, limit: int = 20) -> list[Task]:
        return self._store.finished(limit)

    def models(self) -> ModelList:
        row = self.supervisor.alive(self.supervisor.slots[0])
        infos = self.catalog.infos()
        return ModelList(
            models=tuple(info for info in infos if info.installed), default=self.catalog.default().name,
            absent=tuple(info for info in infos if not info.installed),
            current=row.model if row is not None else None,
            loading_model=row.loading_model if row is not None else None,
        )  # fmt: skip

    def switch(self, model: str) -> str:
        name = self.catalog.find(model).name
        slot = self.supervisor.slots[0]
        self._workers.want(slot.name, name)
        deadline = time.monotonic() + SWITCH_PATIENCE_S
        while time.monotonic() < deadline:
            self.supervisor.start(slot)
            row = self._workers.get(slot.name)
            if row is not None and row.wanted_model is None:
                if row.load_error is not None:
                    raise WorkerFailed(row.load_error.message, remedy=row.load_error.remedy)
                return name
            time.sleep(POLL_S)
        raise WorkerFailed(f"{name} was not loaded within {SWITCH_PATIENCE_S:.0f} s",
                           remedy="a task is probably running; it is loaded after it")  # fmt: skip

    def offload(self) -> str:
        ended = self.supervisor.release()
        return "GPU memory released" if ended else "GPU memory released: no worker was running"

    def stop(self) -> list[int]:
        """Ends this data directory's workers, busy or not; running tasks go back to the queue. Returns their pids."""
        return self.supervisor.stop()

    def gpu(self) -> GpuStatus:
        self.supervisor.ensure()
        slot = self.supervisor.slots[0]
        row, memory, resting = self.supervisor.alive(slot), gpu_memory(slot), self.supervisor.quarantine(slot)
        return GpuStatus(
            cuda_available=bool(slot.uuid), gpu_name=slot.device_name if slot.uuid else None,
            vram_used_mb=memory.used_mb, vram_total_mb=memory.total_mb, device=slot.device,
            gpu_count=sum(bool(slot.uuid) for slot in self.supervisor.slots),
            worker_pid=row.pid if row is not None else None,
            current_model=row.model if row is not None else None,
            loading_model=row.loading_model if row is not None else None,
            current_task=self._workers.pulse(slot.name).task_id,
            quarantined_until=resting.until if resting is not None else None,
            fault=resting.what if resting is not None else None,
        )  # fmt: skip

    def _chosen(self, media: MediaFacts, spec: TaskSpec) -> Model:
        """The machine is looked at only for who leaves the choice to us."""
        if spec.dit_model != AUTO:
            return self.catalog.find(spec.dit_model)
        return forecast.choose(media, spec, self.catalog, self._throughput.times, self._machine(spec))[0]

    def _disk(self, folder: Path) -> Disk:
        return Disk.of(folder, self.settings.work_dir, self.settings.disk_reserve_mb * 1_000_000)

    def _machine(self, spec: TaskSpec) -> Machine:
        slot, folder = self.supervisor.slots[0], self.settings.output_dir
        if spec.output_path is not None:
            folder = Path(spec.output_path).expanduser().absolute().parent
        on_gpu = bool(slot.uuid)
        memory_mb = gpu_memory(slot).total_mb if on_gpu else psutil.virtual_memory().total // MB
        return Machine(
            device=slot.device_name, on_gpu=on_gpu, memory_mb=memory_mb,
            room_bytes=room_bytes(memory_mb * MB, self.settings.vram_limit_mb, on_gpu=on_gpu),
            disk=self._disk(folder), longest_s=self.settings.auto_longest_s,
            queue_s=self._line.look().longest_wait_s(),
            cores=cpu_cores(self.settings.threads), loaded=self._loaded(),
        )  # fmt: skip

    def _loaded(self) -> str | None:
        row = self.supervisor.alive(self.supervisor.slots[0])
        return row.model if row is not None else None


def open_engine(settings: Settings) -> Engine:
    """The engine the settings ask for: this machine's, or the server's named by SEEDVR2_API_URL."""
    if settings.remote_url:
        from upres.remote import RemoteEngine  # httpx is not paid for by local clients

        return RemoteEngine(settings)
    return LocalEngine(settings)
