"""The process that forks readers: it has their libraries loaded and never opens a file itself.

Run by its path, like `inspector.py`, with a socket as its stdin: each request brings the end of a pipe for the answer.
It ends when nobody is at the socket's other end, and then so do its readers; or when nobody asked for a while. Linux
only (prctl). Knows nothing of the rest of Upres.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import signal
import socket
from contextlib import suppress
from pathlib import Path
from types import FrameType, ModuleType

READY, FORKED = b"r", b"f"
IDLE_S = 60.0
REQUEST_BYTES = 1 << 16  # a path of 4096 bytes, each escaped as \udc80, and a few numbers


def load_inspector() -> ModuleType:
    """By its path: a script's folder on the module path would hide `codecs` of the standard library."""
    import ctypes  # noqa: F401  # these are what the inspector imports when it comes to need them
    import resource  # noqa: F401

    import av  # noqa: F401
    from PIL import Image, ImageCms  # noqa: F401

    Image.init()
    spec = importlib.util.spec_from_file_location("inspector", Path(__file__).with_name("inspector.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    gc.freeze()  # a child's collection would copy every page
    return module


def serve(asked: socket.socket, inspector: ModuleType) -> None:
    asked.settimeout(IDLE_S)
    forked = ended = 0

    def reap(signum: int, frame: FrameType | None) -> None:
        nonlocal ended
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                ended += 1

    signal.signal(signal.SIGCHLD, reap)
    while True:
        try:
            request, fds, _, _ = socket.recv_fds(asked, REQUEST_BYTES, 1)
        except TimeoutError:
            if forked > ended:
                continue
            return
        if not request:
            return
        forked += 1
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            asked.close()
            read(inspector, json.loads(request), fds[0], str(os.getppid()))
        os.close(fds[0])
        asked.sendall(FORKED)


def read(inspector: ModuleType, arguments: list[str], answer_fd: int, parent: str) -> None:
    """In the child; never returns. An exception leaves no answer, and then somebody else has a look."""
    try:
        with open(answer_fd, "w") as answer:
            answer.write(inspector.answer(*arguments, parent))
    finally:
        os._exit(0)


def main() -> None:
    asked = socket.socket(fileno=0)
    inspector = load_inspector()
    asked.sendall(READY)
    serve(asked, inspector)


if __name__ == "__main__":
    main()
