"""The Engine verbs as requests of the documented REST API. Knows nothing of HTTP's failures or of JSON.

A completed task is only ever shown with its file on this machine: the verb that first learns of the completion
fetches the file, to `output_dir/<task id>/<name>` or to the order's `output_path`, and that is the result's
`output_path`. Two exceptions: `history` fetches nothing, and a file the server no longer has keeps the server's path.
"""

from __future__ import annotations

import errno
import math
import os
import secrets
import shutil
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO
from urllib.parse import quote

from upres.engine import ALL_STATES, PREVIEW_PRIORITY
from upres.errors import (
    DiskFull,
    FileMissing,
    InvalidParameter,
    ModelNotFound,
    OutputMissing,
    RemoteFailed,
    TaskNotCompleted,
    TaskNotFound,
)
from upres.forecast_values import Forecast, MediaFacts
from upres.intake import looked_at, refuse_rate
from upres.pictures.values import Comparison, Excerpt, Focus
from upres.remote.http import SLOW, Server, Unreachable
from upres.remote.replies import (
    DoneReply,
    GpuReply,
    HistoryReply,
    ModelsReply,
    QueueReply,
    StatusReply,
    SubmitReply,
    SwitchReply,
)
from upres.settings import Settings
from upres.tasks import GpuStatus, ModelList, QueueStatus, Task, TaskPage, TaskSpec, TaskState

POLL_S, POLL_MOST_S = 0.2, 2.0
OUTAGE_S = 60.0  # how long `wait` bears a server that does not answer, as it does not while it restarts
MOST_HISTORY = 1000  # the API's own limit
OURS_ALONE = {"input_path", "output_path", "overwrite"}  # of an order; the server has paths of its own


class Lacking(RemoteFailed):
    """The server has no such route: it is no Upres, or an older one."""


class RemoteEngine:
    """An `Engine` on the server that SEEDVR2_API_URL names."""

    def __init__(self, settings: Settings) -> None:
        """Raises InvalidSetting."""
        self._server = Server(settings.remote_url, settings.token)
        self._cuts = settings.data_dir / "previews"
        self._output_dir = settings.output_dir
        self._inputs = settings.data_dir / "remote"  # a file a task: where its input lies on this machine
        self._wanted: dict[str, Path] = {}  # where this process's own orders want their results
        self._placed: set[str] = set()  # ids of those that are there
        self._fetching = threading.Lock()  # two waiters of one task, one transfer

    def close(self) -> None:
        self._server.close()

    def submit(self, spec: TaskSpec, *, key: str | None = None, priority: int = 0) -> Task:
        path = Path(spec.input_path).expanduser().absolute()
        target = _checked_target(spec)
        form = spec.model_dump(exclude=OURS_ALONE | {"frame_rate"}, exclude_none=True)  # a folder goes as a clip of it
        if priority:
            form["priority"] = priority
        headers = {"Idempotency-Key": key} if key is not None else {}
        with self._to_send(path, spec) as file:
            name = os.fsencode(os.path.basename(file.name)).decode(errors="replace")
            reply = self._server.ask(
                SubmitReply, "POST", "/api/process", missing=self._no_model(str(spec.dit_model)),
                data=form, files={"file": (name, file)}, headers=headers, timeout=SLOW,
            )  # fmt: skip
        if target is not None:
            self._wanted[reply.task_id] = target
        self._inputs.mkdir(parents=True, exist_ok=True)
        (self._inputs / _part(reply.task_id)).write_text(str(path), "utf-8")
        return self.status(reply.task_id)

    @contextmanager
    def _to_send(self, path: Path, spec: TaskSpec) -> Iterator[BinaryIO]:
        """The file, or a folder's images as one."""
        if path.is_dir():
            from upres.pictures.packing import packed

            info = looked_at(spec)
            self._cuts.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=self._cuts) as place, packed(info, Path(place)).open("rb") as file:
                yield file
            return
        refuse_rate(spec)
        try:
            file = path.open("rb")
        except OSError as error:
            raise FileMissing(f"{path}: {error.strerror}", remedy="give the path of a readable file") from error
        with file:
            yield file

    def probe(self, path: str) -> MediaFacts:
        return MediaFacts.of(looked_at(TaskSpec(input_path=path)))

    def plan(self, spec: TaskSpec) -> Forecast:
        """The file is looked at here, and what it is, not the file itself, is sent. An addition, as `compare` is."""
        return self.plan_for(MediaFacts.of(looked_at(spec)), spec)

    def sample(self, spec: TaskSpec, excerpt: Excerpt) -> Task:
        """The piece is cut here and sent as a task of its own."""
        from upres.pictures.verbs import cut_for_preview, preview_frames, sweep

        info = looked_at(spec)
        share = excerpt.box(info)[2].pixels / (info.width * info.height)
        try:
            frame_s = self.plan_for(MediaFacts.of(info), spec).work.likely_s / info.frames * share
        except Lacking:
            frame_s = math.inf
        frames = preview_frames(info, excerpt, frame_s)
        sweep(self._cuts)  # no worker of this data directory does it
        with cut_for_preview(info, spec, excerpt, frames, self._cuts) as order:
            return self.submit(order, priority=PREVIEW_PRIORITY)

    def compare(
        self, task_id: str, *, at_s: float | None = None, focus: Focus = "auto", against: str | None = None
    ) -> Comparison:
        """By the files here where they are, else by the server's; of a task that still runs, by the server's."""
        from upres.pictures.verbs import Footage, compare

        mine = self._input(task_id)
        before = Footage.of(mine, mine) if mine is not None else None
        if against is not None:
            before = Footage.of(self.output(against), self._input(against))
        if before is not None and self._status(task_id).status is TaskState.COMPLETED:
            return compare(before, Footage.of(self.output(task_id), mine), at_s, focus)
        asked = {"focus": focus} if at_s is None else {"focus": focus, "at": str(at_s)}
        lacking = self._lacks("GET /api/compare", "look at the downloaded file")
        return self._server.ask(Comparison, "GET", f"/api/compare/{_part(task_id)}", missing=lacking, params=asked)

    def sheet(self, task_id: str) -> bytes:
        from upres.pictures.verbs import sheet

        return sheet(self.output(task_id))

    def plan_for(self, media: MediaFacts, spec: TaskSpec) -> Forecast:
        body = {"media": media.model_dump(mode="json"),
                "params": spec.model_dump(mode="json", exclude=OURS_ALONE, exclude_none=True)}  # fmt: skip
        lacking = self._lacks("POST /api/plan", "preview a piece and see how long that takes")
        return self._server.ask(Forecast, "POST", "/api/plan", missing=lacking, json=body)

    def _input(self, task_id: str) -> Path | None:
        """The file that a front end of this data directory sent for the task, if it is still there."""
        note = self._inputs / _part(task_id)
        path = Path(note.read_text("utf-8")) if note.is_file() else None
        return path if path is not None and path.exists() else None

    def _lacks(self, route: str, remedy: str) -> Lacking:
        return Lacking(f"{self._server.url} has no {route}", remedy=remedy)

    def status(self, task_id: str) -> Task:
        return self._shown(self._status(task_id))

    def wait(self, task_id: str, timeout_s: float | None = None, *, seen: Task | None = None) -> Task:
        started = heard = time.monotonic()
        pause_s = POLL_S
        while True:
            now = time.monotonic()
            try:
                reply = self._status(task_id)
                heard = now
            except Unreachable:
                if now - heard > OUTAGE_S or (timeout_s is not None and now - started >= timeout_s):
                    raise
            else:
                task = reply.task()
                changed = seen is not None and (task.state, task.progress) != (seen.state, seen.progress)
                if task.state.finished or changed or (timeout_s is not None and now - started >= timeout_s):
                    return self._shown(reply)
            time.sleep(pause_s if timeout_s is None else max(0.0, min(pause_s, started + timeout_s - now)))
            pause_s = min(POLL_MOST_S, pause_s * 1.5)

    def cancel(self, task_id: str) -> Task:
        """An addition of Upres to the documented API: raises RemoteFailed on a server without it."""
        lacking = self._lacks("POST /api/cancel", "let the task end by itself")
        return self._shown(self._server.ask(StatusReply, "POST", f"/api/cancel/{_part(task_id)}", missing=lacking))

    def retry(self, task_id: str) -> Task:
        """An addition of Upres, as cancel is. The retry's result goes to `output_dir`."""
        lacking = RemoteFailed(f"{self._server.url} has no POST /api/retry", remedy="submit the file again")
        reply = self._server.ask(SubmitReply, "POST", f"/api/retry/{_part(task_id)}", missing=lacking)
        return self.status(reply.task_id)

    def remove(self, task_id: str) -> Task:
        """There and here. An addition of Upres: raises RemoteFailed on a server without it."""
        reply = self._status(task_id)
        lacking = RemoteFailed(f"{self._server.url} has no DELETE /api/tasks", remedy="leave the task there")
        self._server.tell("DELETE", f"/api/tasks/{_part(task_id)}", missing=lacking)
        shutil.rmtree(self._output_dir / _part(task_id), ignore_errors=True)
        return reply.task()

    def output(self, task_id: str) -> Path:
        reply = self._status(task_id)
        if reply.status is not TaskState.COMPLETED:
            raise TaskNotCompleted(f"task {task_id} is {reply.status}", remedy=reply.status.without_result)
        return self._fetch(reply)

    def preview(self, task_id: str) -> bytes:
        lacking = RemoteFailed(f"{self._server.url} makes no previews", remedy="download the result")
        return self._server.tell("GET", f"/api/files/{_part(task_id)}/preview", missing=lacking)

    def tasks(self, states: Collection[TaskState] = ALL_STATES, page: int = 1, page_size: int = 20) -> TaskPage:
        """From its queue and its history, which goes back `MOST_HISTORY` tasks; unfinished ones are taken for newer."""
        queue = self.queue()
        known = (*reversed(queue.pending), *queue.processing, *self.history(MOST_HISTORY))
        wanted = [task for task in known if task.state in states]
        first = (page - 1) * page_size
        return TaskPage(tasks=tuple(wanted[first : first + page_size]), total=len(wanted),
                        counts=Counter(task.state for task in known))  # fmt: skip

    def queue(self) -> QueueStatus:
        return self._server.ask(QueueReply, "GET", "/api/queue/status").queue()

    def history(self, limit: int = 20) -> list[Task]:
        items = self._server.ask(HistoryReply, "GET", "/api/queue/history", params={"limit": limit}).history
        return [_at(item.task(), self._target(item)) if self._is_here(item) else item.task() for item in items]

    def models(self) -> ModelList:
        return self._server.ask(ModelsReply, "GET", "/api/models").listing()

    def switch(self, model: str) -> str:
        reply = self._server.ask(SwitchReply, "POST", "/api/models/switch", missing=self._no_model(model),
                                 json={"model": model}, timeout=SLOW)  # fmt: skip
        return reply.model

    def offload(self) -> str:
        return self._server.ask(DoneReply, "POST", "/api/gpu/offload").message

    def gpu(self) -> GpuStatus:
        return self._server.ask(GpuReply, "GET", "/api/gpu/status").gpu()

    def _status(self, task_id: str) -> StatusReply:
        unknown = TaskNotFound(f"{self._server.url} has no task {task_id}", remedy="see its queue and its history")
        return self._server.ask(StatusReply, "GET", f"/api/status/{_part(task_id)}", missing=unknown)

    def _shown(self, reply: StatusReply) -> Task:
        task = reply.task()
        if task.result is None:
            return task
        try:
            return _at(task, self._fetch(reply))
        except OutputMissing:
            return task

    def _target(self, reply: StatusReply) -> Path:
        """Where the result lies once it is here. Names from the network become one path part each."""
        name = reply.output_filename.replace("\\", "/").rpartition("/")[2]
        own = self._output_dir / _part(reply.id) / (name if name.strip(". ") and "\0" not in name else "result")
        return self._wanted.get(reply.id, own)

    def _is_here(self, reply: StatusReply) -> bool:
        return self._target(reply).is_file() and (reply.id not in self._wanted or reply.id in self._placed)

    def _fetch(self, reply: StatusReply) -> Path:
        target = self._target(reply)
        with self._fetching:
            if not self._is_here(reply):
                self._download(reply.id, target)
                self._placed.add(reply.id)
        return target

    def _download(self, task_id: str, target: Path) -> None:
        gone = OutputMissing(f"{self._server.url} no longer has the file of task {task_id}", remedy="submit it again")
        part = target.with_name(f".{secrets.token_hex(8)}.part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with part.open("xb") as file, self._server.download(f"/api/download/{_part(task_id)}", gone) as blocks:
                for block in blocks:
                    file.write(block)
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise DiskFull(f"no space left for {target}", remedy="free space, or set OUTPUT_FOLDER") from error
        finally:
            part.unlink(missing_ok=True)

    def _no_model(self, name: str) -> ModelNotFound:
        return ModelNotFound(f"{self._server.url} has no model {name}", remedy="list the models for its names")


def _at(task: Task, path: Path) -> Task:
    assert task.result is not None
    return task.model_copy(update={"result": task.result.model_copy(update={"output_path": str(path)})})


def _part(task_id: str) -> str:
    """As one part of a URL or path."""
    return quote(task_id, safe="") if task_id.strip(".") else "_"


def _checked_target(spec: TaskSpec) -> Path | None:
    """Raises FileMissing, InvalidParameter before anything is sent."""
    if spec.output_path is None:
        return None
    target = Path(spec.output_path).expanduser().absolute()
    if not target.parent.is_dir():
        raise FileMissing(f"{target.parent} is not a directory", remedy="create it first")
    if target.exists() and not spec.overwrite:
        raise InvalidParameter(f"{target} exists", remedy="allow overwriting or choose another name")
    return target
