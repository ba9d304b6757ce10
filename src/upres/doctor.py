"""What is installed, what is missing and what to do about it. Changes nothing."""

from __future__ import annotations

import platform
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import imageio_ffmpeg

from upres.catalog import MODELS, Catalog, download_command
from upres.engine import LocalEngine
from upres.errors import UpresError
from upres.fleet.slots import find_slots, gpu_memory
from upres.media.nvenc import nvenc_refusal
from upres.settings import Settings
from upres.version import __version__

OLDEST_SQLITE = (3, 38, 0)  # RETURNING, STRICT tables and built-in JSON
TORCH_LOOK = (
    "import torch; c = torch.cuda.is_available(); "
    "print(torch.__version__, torch.cuda.get_device_name() if c else 'no CUDA', sep='|')"
)
LOOK_TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class Finding:
    """`remedy` is empty where all is well."""

    topic: str
    found: str
    remedy: str = ""


def diagnose(settings: Settings) -> Iterator[Finding]:
    """Findings, as they are made; none of them raises."""
    yield Finding("upres", f"{__version__} on Python {platform.python_version()} ({sys.executable})")
    yield Finding("mcp", metadata.version("mcp"))
    if sqlite3.sqlite_version_info >= OLDEST_SQLITE:
        yield Finding("sqlite", sqlite3.sqlite_version)
    else:
        yield Finding("sqlite", sqlite3.sqlite_version, "use a Python whose SQLite is 3.38 or newer")
    yield _ffmpeg()
    yield from _devices(settings)
    yield from _models(settings)
    yield from _storage(settings)


def _ffmpeg() -> Finding:
    try:
        return Finding("ffmpeg", f"{imageio_ffmpeg.get_ffmpeg_version()} ({imageio_ffmpeg.get_ffmpeg_exe()})")
    except RuntimeError as error:
        return Finding("ffmpeg", str(error), "pip install --force-reinstall imageio-ffmpeg")


def _devices(settings: Settings) -> Iterator[Finding]:
    try:
        slots = find_slots(settings.visible_devices)
    except UpresError as error:
        yield Finding("devices", error.message, error.remedy)
        return
    for slot in slots:
        memory = gpu_memory(slot)
        used = f", {memory.used_mb} of {memory.total_mb} MB used" if slot.uuid else ""
        yield Finding("device", f"{slot.device_name}{used}")
        if slot.uuid:
            why = nvenc_refusal("h264", 8, slot.uuid)
            yield Finding("nvenc", f"does not work: {why}; encoder=auto takes software" if why else "works")
    look = subprocess.run([sys.executable, "-c", TORCH_LOOK], capture_output=True, text=True, check=False,
                          stdin=subprocess.DEVNULL, timeout=LOOK_TIMEOUT_S)  # fmt: skip
    if look.returncode:
        yield Finding("torch", look.stderr.strip().rpartition("\n")[2], "pip install torch")
        return
    version, _, cuda = look.stdout.strip().partition("|")
    blind = cuda == "no CUDA" and any(slot.uuid for slot in slots)
    yield Finding("torch", f"{version}, {cuda}", "install a CUDA build of torch; tasks run on the CPU" if blind else "")


def _models(settings: Settings) -> Iterator[Finding]:
    catalog = Catalog(settings.model_dir)
    absent = []
    for model in MODELS:
        missing = catalog.missing(model)
        if not missing:
            yield Finding("model", f"{model.name} installed")
        elif model.files[0] in missing:
            absent.append(model.name)
        else:
            yield Finding("model", f"{model.name} lacks {', '.join(missing)}", download_command(model.name))
    if absent:
        yield Finding("models", f"{len(absent)} more can be had: `upres download` lists them")


def _storage(settings: Settings) -> Iterator[Finding]:
    try:
        engine = LocalEngine(settings)
    except UpresError as error:
        yield Finding("store", error.message, error.remedy)
        return
    queue = engine.queue()
    yield Finding("store", f"{settings.data_dir}: {len(queue.processing)} running, {len(queue.pending)} queued, "
                           f"{queue.total_completed} completed, {queue.total_failed} failed")  # fmt: skip
    for slot in engine.supervisor.slots:
        row = engine.supervisor.alive(slot)
        doing = f"pid {row.pid}, {row.state}, model {row.model}" if row is not None else "none (started on demand)"
        yield Finding("worker", f"{slot.device_name}: {doing}; log {engine.supervisor.log_path(slot)}")
        resting = engine.supervisor.quarantine(slot)
        if resting is not None:
            left = f"{slot.device_name} failed repeatedly and rests for {resting.until - time.time():.0f} s more"
            yield Finding("worker", f"{left}: {resting.what}", "see the log; `upres stop` ends the rest at once")
    engine.close()
    free_mb = shutil.disk_usage(_existing(settings.output_dir)).free // 2**20
    remedy = "free space; tasks are refused" if free_mb < settings.disk_reserve_mb else ""
    yield Finding("disk", f"{free_mb} MB free for {settings.output_dir}", remedy)


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)
