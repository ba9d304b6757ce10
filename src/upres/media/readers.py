"""Children that read one untrusted file each. Knows nothing of what they find.

Most of what such a child costs is to start Python and load its libraries: 80 of 85 ms of CPU. From the second file on
they are forked from a process that has them loaded (`nursery.py`), where the system allows it.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from upres.environment import bare_environment
from upres.media.nursery import FORKED, READY

INSPECTOR = Path(__file__).with_name("inspector.py")
NURSERY = Path(__file__).with_name("nursery.py")
ACKNOWLEDGED_WITHIN_S = 5.0
BLOCK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Said:
    """What a reader wrote before it ended. Of one apart also with which status (below 0: a signal) and complaint."""

    answer: bytes
    forked: bool
    status: int = 0
    complaint: str = ""


class Readers:
    """Thread-safe, and of one process: a fork of it must have its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked = 0
        self._socket: socket.socket | None = None
        self._nursery: subprocess.Popen[bytes] | None = None
        self._ready = False

    @property
    def nursery_pid(self) -> int | None:
        return self._nursery.pid if self._nursery is not None else None

    def read(self, arguments: Sequence[str], timeout_s: float) -> Said:
        """Raises TimeoutError."""
        answer = self._forked(arguments, timeout_s)
        return Said(answer, forked=True) if answer.endswith(b"\n") else _apart(arguments, timeout_s)

    def close(self) -> None:
        """Ends the nursery; the next file but one has another."""
        with self._lock:
            self._forget()

    def _forked(self, arguments: Sequence[str], timeout_s: float) -> bytes:
        """Empty where there is no nursery yet, or its reader crashed: one apart then shows of what."""
        deadline = time.monotonic() + timeout_s
        ours, theirs = os.pipe()
        try:
            try:
                with self._lock:
                    given = self._ask(arguments, theirs)
            finally:
                os.close(theirs)
            return _all_of(ours, deadline) if given else b""
        finally:
            os.close(ours)

    def _ask(self, arguments: Sequence[str], answer_fd: int) -> bool:
        self._asked += 1
        if self._socket is None and self._asked > 1 and sys.platform == "linux":
            self._start()
        if self._socket is None:
            return False
        try:
            if not self._ready:
                self._ready = _readable(self._socket.fileno(), 0) and self._socket.recv(1) == READY
                if not self._ready:
                    return False
            socket.send_fds(self._socket, [json.dumps(arguments).encode()], [answer_fd])
            if self._socket.recv(1) == FORKED:
                return True
        except OSError:  # it is gone, as after a while without work
            pass
        self._forget()
        return False

    def _start(self) -> None:
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(ACKNOWLEDGED_WITHIN_S)
        with theirs:
            self._nursery = subprocess.Popen(
                [sys.executable, "-P", str(NURSERY)], stdin=theirs.fileno(), stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, start_new_session=True, env=bare_environment(),
            )  # fmt: skip

    def _forget(self) -> None:
        if self._socket is not None:
            self._socket.close()
        if self._nursery is not None:
            self._nursery.kill()  # if it still lives, it did not answer
            self._nursery.wait()
        self._socket, self._nursery, self._ready = None, None, False


def _all_of(fd: int, deadline: float) -> bytes:
    parts: list[bytes] = []
    while _readable(fd, max(0.0, deadline - time.monotonic())):
        part = os.read(fd, BLOCK_BYTES)
        if not part:
            return b"".join(parts)
        parts.append(part)
    raise TimeoutError  # an alarm of its own ends the reader


def _readable(fd: int, within_s: float) -> bool:
    """`select` knows no descriptor above 1023, and a server with many clients has them."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(within_s * 1000))


def _apart(arguments: Sequence[str], timeout_s: float) -> Said:
    try:
        child = subprocess.run(
            [sys.executable, "-P", str(INSPECTOR), *arguments, str(os.getpid())], stdin=subprocess.DEVNULL,
            capture_output=True, timeout=timeout_s, check=False, start_new_session=os.name == "posix",
            env=bare_environment(),
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise TimeoutError from error
    said = child.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
    return Said(child.stdout, False, child.returncode, said)
