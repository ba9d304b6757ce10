"""Makes settings and tiny media for tests. Everything is real: ffmpeg, files, processes."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg
import psutil

from upres.settings import Settings

PATIENCE_S = 180.0


def until(condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.02)


def make_settings(data_dir: Path, **variables: str) -> Settings:
    """CPU only and one thread, whatever the machine has."""
    return Settings.from_env({"UPRES_DATA_DIR": str(data_dir), "NVIDIA_VISIBLE_DEVICES": "none", "UPRES_THREADS": "1",
                              "GPU_IDLE_TIMEOUT": "120", "UPRES_DISK_RESERVE": "0", **variables})  # fmt: skip


def ffmpeg(*arguments: str | Path) -> None:
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-y", *map(str, arguments)],
                   check=True, stdin=subprocess.DEVNULL)  # fmt: skip


def make_video(
    path: Path, *, frames: int = 9, size: str = "64x48", rate: str = "24000/1001", sound: bool = True
) -> Path:
    """A test picture whose colours turn from frame to frame, so that no two frames look alike."""
    inputs = ["-f", "lavfi", "-i", f"testsrc2=s={size}:r={rate},hue=h=67*n"]
    if sound:
        inputs += ["-f", "lavfi", "-i", "sine=440"]
    ffmpeg(*inputs, "-frames:v", str(frames), "-shortest", "-pix_fmt", "yuv420p", path)
    return path


def workers_of(settings: Settings) -> list[psutil.Process]:
    """The living workers of a data directory, as the system sees them."""
    found = []
    for process in psutil.process_iter():
        try:
            ours = "upres.worker.process" in process.cmdline() and process.cwd() == str(settings.data_dir)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        if ours and process.status() != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found
