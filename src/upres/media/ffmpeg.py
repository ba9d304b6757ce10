"""One owned ffmpeg process: started, fed, read, watched and reaped. Knows nothing of frames, codecs or files."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

import imageio_ffmpeg

from upres.environment import bare_environment
from upres.errors import DiskFull, MediaFailed, UpresError

STALL_S = 60.0  # the slowest honest step (x264's look-ahead filling at 8K on two cores) stays under half of it
STDERR_BYTES = 64 * 1024
PIPE_BYTES = 1 << 20  # Linux's largest pipe for an ordinary user; the default 64 KB costs 100 switches a 1080p frame
CONFINED_BYTES = 8 << 30  # address space, not resident memory: 8K frames, eight threads with theirs, and their stacks
ENOSPC_STATUS = 228  # ffmpeg exits with its negative errno & 255; 28 is ENOSPC
_GUARD = Path(__file__).with_name("guard.py")
_QUIET = ("-nostdin", "-hide_banner", "-v", "warning")
_CREDENTIALS = re.compile(r"(\w+://)[^/@\s]+@|\b((?:token|key|signature|password|secret|sig)=)[^&\s]+", re.IGNORECASE)
_FOLDERS = re.compile(r"(?:file:)?(?:/[^/\n'\"]+)+/")


@functools.cache
def ffmpeg_path() -> str:
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise MediaFailed("no ffmpeg was found", remedy="reinstall imageio-ffmpeg or set IMAGEIO_FFMPEG_EXE") from error


class FfmpegProcess:
    """`with FfmpegProcess([...], doing="decoding a.mp4", yields=True) as process:` owns the process until the end.

    Enter it in a thread that lives as long as the work: Linux ends the process when the *thread* that started it ends.
    `read_into`, `write` and `finish` may run in another thread, `close` in any. With `yields` stdout carries data;
    otherwise it carries ffmpeg's progress lines, from which `frames_reported` is kept. `listen` gets all that ffmpeg
    says, as it comes, in a thread of its own, and returns what shall be kept of it. A `confined` process may not write
    files and has a bounded address space: for reading what strangers made.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        doing: str,
        feeds: bool = False,
        yields: bool = False,
        confined: bool = False,
        listen: Callable[[bytes], bytes] | None = None,
        stall_s: float = STALL_S,
    ) -> None:
        progress = () if yields else ("-progress", "pipe:1", "-stats_period", "0.5")
        self._arguments = [*_QUIET, *progress, *arguments]
        self._doing, self._feeds, self._yields, self._stall_s = doing, feeds, yields, stall_s
        self._confined, self._listen = confined, listen
        self._stderr = bytearray()
        self._reading, self._writing = threading.Lock(), threading.Lock()
        self._ended = threading.Event()
        self._waiting_since: float | None = None  # monotonic; None while nobody waits for ffmpeg
        self._stalled = self._closed = False
        self.frames_reported = 0

    def __enter__(self) -> Self:
        try:
            self._process = subprocess.Popen(
                _guarded([ffmpeg_path(), *self._arguments], self._confined),
                stdin=subprocess.PIPE if self._feeds else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=bare_environment(),
                start_new_session=os.name == "posix",
            )
        except OSError as error:
            raise MediaFailed(f"ffmpeg cannot be started: {error}", remedy="reinstall imageio-ffmpeg") from error
        targets: list[Callable[[], None]] = [self._drain_stderr, self._watch]
        if not self._yields:
            targets.append(self._drain_progress)
        self._threads = [threading.Thread(target=target, name="ffmpeg", daemon=True) for target in targets]
        with contextlib.ExitStack() as undo:
            undo.callback(self._process.wait)
            undo.callback(self._kill)
            for thread in self._threads:
                thread.start()
            undo.pop_all()
        for pipe in (self._process.stdin, self._process.stdout):
            _widen(pipe)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        self._reap()
        with self._reading, self._writing:  # whoever was blocked on a pipe has been woken by the kill
            for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
                if pipe is not None:
                    pipe.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def read_into(self, view: memoryview) -> int:
        """Fills `view` (bytes) from stdout; fewer bytes than asked mean the end of the stream."""
        pipe, got = cast(IO[bytes], self._process.stdout), 0
        with self._reading:
            while got < len(view) and not self._closed:
                with self._waiting():
                    count = cast(Any, pipe).readinto(view[got:])
                if not count:
                    break
                got += count
        self._refuse_if_stopped()
        return got

    def write(self, view: memoryview) -> None:
        """Writes all of `view` (bytes) to stdin. Raises why ffmpeg stopped listening."""
        pipe, sent = cast(IO[bytes], self._process.stdin), 0
        with self._writing:
            try:
                while sent < len(view) and not self._closed:
                    with self._waiting():
                        sent += pipe.write(view[sent : sent + PIPE_BYTES])
            except OSError:  # EPIPE; EINVAL on Windows
                self._reap()
                self._refuse_if_stopped()
                raise self._failure() from None
        self._refuse_if_stopped()

    def finish(self) -> None:
        """Ends the input, waits for ffmpeg's own end and raises if it failed."""
        if self._process.stdin is not None:
            with self._writing:
                self._process.stdin.close()
        self._reap()
        self._refuse_if_stopped()
        if self._process.returncode != 0:
            raise self._failure()

    def close(self) -> None:
        """Kills the process now. Safe from any thread and any number of times."""
        self._closed = True
        self._kill()

    def errors(self) -> str:
        """The end of what ffmpeg said, without credentials and folders."""
        text = self._stderr.decode("utf-8", "replace")
        text = _FOLDERS.sub("", _CREDENTIALS.sub(r"\1\2***", text))
        return " | ".join(line.strip() for line in text.splitlines()[-6:])[-800:]

    def _kill(self) -> None:
        if self._process.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.name == "posix":
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()

    def _reap(self) -> None:
        with self._waiting():
            self._process.wait()
        self._ended.set()
        for thread in self._threads:
            thread.join()

    @contextlib.contextmanager
    def _waiting(self) -> Iterator[None]:
        self._waiting_since = time.monotonic()
        try:
            yield
        finally:
            self._waiting_since = None

    def _watch(self) -> None:
        """Kills a process that let somebody wait too long. Looks four times per limit, so it may be a quarter late."""
        while not self._ended.wait(min(1.0, self._stall_s / 4)):
            since = self._waiting_since
            if since is not None and time.monotonic() - since > self._stall_s:
                self._stalled = True
                self._kill()

    def _drain_stderr(self) -> None:
        pipe = cast(IO[bytes], self._process.stderr)
        while chunk := pipe.read(8192):
            self._stderr += chunk if self._listen is None else self._listen(chunk)
            del self._stderr[:-STDERR_BYTES]

    def _drain_progress(self) -> None:
        """ffmpeg prints these lines even when it hangs: only a value that changed counts as progress."""
        seen: dict[bytes, bytes] = {}
        for line in cast(IO[bytes], self._process.stdout):
            name, _, value = line.strip().partition(b"=")
            if name in (b"frame", b"total_size", b"out_time_us") and seen.get(name) != value:
                seen[name] = value
                if self._waiting_since is not None:
                    self._waiting_since = time.monotonic()
                if name == b"frame":
                    self.frames_reported = int(value)

    def _refuse_if_stopped(self) -> None:
        if self._stalled:
            raise MediaFailed(
                f"{self._doing}: ffmpeg made no progress for {self._stall_s:g} s {self.errors()}".rstrip(),
                remedy="check the disk and the load of the machine, then try again",
            )
        if self._closed:
            raise MediaFailed(f"{self._doing}: stopped before its end")

    def _failure(self) -> UpresError:
        status, said = self._process.returncode, self.errors()
        if status == ENOSPC_STATUS or "No space left on device" in said or "Disk quota exceeded" in said:
            return DiskFull(f"{self._doing}: the disk is full", remedy="free some space and try again")
        end = f"was killed by signal {-status}" if status < 0 else f"failed with exit status {status}"
        return MediaFailed(f"{self._doing}: ffmpeg {end}: {said or 'it gave no reason'}")


def _guarded(command: list[str], confined: bool) -> list[str]:
    if sys.platform != "linux" or not sys.executable:
        return command
    memory = CONFINED_BYTES if confined else 0
    return [sys.executable, "-I", "-S", str(_GUARD), str(os.getpid()), str(memory), *command]


def _widen(pipe: IO[bytes] | None) -> None:
    """A wider pipe is only faster: a system that knows no such call, or has no memory for it, keeps its own."""
    if pipe is not None and sys.platform == "linux":
        import fcntl

        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
