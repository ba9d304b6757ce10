"""Files that want to read other files, open sockets, run for ever or take all memory: what became of each.

    python -m tests.contract.hostile [--quick] [--write docs/media.md]

Each is submitted to an engine of its own, in a process of its own. Exit status 0 only if every one was answered with
the expected code within 5 s and 1 GB, started no worker, left no file, and opened neither the secret nor a connection.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from upres.engine import LocalEngine
from upres.errors import UpresError
from upres.settings import Settings
from upres.tasks import TaskSpec

from .making import H264, clip, ffmpeg, picture, tone

MOST_S, MOST_MB = 5.0, 1024
IN_OPEN, IN_NONBLOCK = 0x20, 0x800  # linux/inotify.h


@dataclass(frozen=True)
class Trap:
    """`make` gets a folder, the secret's path and a port that must stay silent, and returns what to submit."""

    name: str
    make: Callable[[Path, Path, int], str]
    codes: tuple[str, ...] = ("invalid_input", "unsupported_media")
    quick: bool = False


def text(name: str, content: str) -> Callable[[Path, Path, int], str]:
    def make(folder: Path, secret: Path, port: int) -> str:
        (folder / name).write_text(content.format(secret=secret, relative=secret.name, port=port))
        return str(folder / name)

    return make


def data(name: str, content: Callable[[], bytes]) -> Callable[[Path, Path, int], str]:
    def make(folder: Path, secret: Path, port: int) -> str:
        (folder / name).write_bytes(content())
        return str(folder / name)

    return make


def path(template: str) -> Callable[[Path, Path, int], str]:
    return lambda folder, secret, port: template.format(secret=secret, port=port, folder=folder)


def png(width: int, height: int, *extra: tuple[bytes, bytes]) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compressobj(9)
    body = b"".join(rows.compress(bytes(1 + width // 8)) for _ in range(min(height, 20_000))) + rows.flush()
    chunks = [(b"IHDR", head), *extra, (b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


def made(*arguments: str, name: str = "a.mp4") -> Callable[[Path, Path, int], str]:
    def make(folder: Path, secret: Path, port: int) -> str:
        ffmpeg(*arguments, folder / name)
        return str(folder / name)

    return make


def patched(kind: bytes, offset: int, value: bytes) -> Callable[[Path, Path, int], str]:
    """An MP4 with bytes changed so far behind a box's name."""

    def make(folder: Path, secret: Path, port: int) -> str:
        file = clip("a.mp4")(folder)
        content = bytearray(file.read_bytes())
        at = content.index(kind) + 4 + offset
        content[at : at + len(value)] = value
        file.write_bytes(content)
        return str(file)

    return make


def without_index(folder: Path, secret: Path, port: int) -> str:
    file = clip("a.mp4")(folder)
    content = file.read_bytes()
    file.write_bytes(content[: content.index(b"moov") - 4])
    return str(file)


def link(folder: Path, secret: Path, port: int) -> str:
    (folder / "a.mp4").symlink_to("/etc/passwd")
    return str(folder / "a.mp4")


def pipe(folder: Path, secret: Path, port: int) -> str:
    os.mkfifo(folder / "a.mp4")
    return str(folder / "a.mp4")


def bare(folder: Path, secret: Path, port: int) -> str:
    (folder / "bare").mkdir()
    (folder / "bare" / "a.txt").write_text("no image")
    return str(folder / "bare")


def archive(folder: Path, secret: Path, port: int) -> str:
    with zipfile.ZipFile(folder / "a.mp4", "w") as file:
        file.write(secret, "secret.mp4")
    return str(folder / "a.mp4")


def sparse(folder: Path, secret: Path, port: int) -> str:
    with (folder / "a.ts").open("wb") as file:
        file.truncate(50 << 30)
    return str(folder / "a.ts")


def unpacking(size: int) -> bytes:
    pack = zlib.compressobj(9)
    return b"Comment\0\0" + b"".join(pack.compress(bytes(1 << 20)) for _ in range(size >> 20)) + pack.flush()


BLACK = ["-f", "lavfi", "-i", "color=black:s=64x64:r=1:d=36000", *H264]
HUGE = ["-f", "lavfi", "-i", "color=s=16000x16000:r=1,format=monob", "-frames:v", "3", "-c:v", "png"]
HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{}\n#EXT-X-ENDLIST\n"
TRAPS = (
    Trap("playlist (HLS) of a local file", text("a.m3u8", HLS.format("file://{secret}")), quick=True),
    Trap("playlist named .mp4", text("a.mp4", HLS.format("file://{secret}"))),
    Trap("playlist of an address", text("a.mp4", HLS.format("http://127.0.0.1:{port}/a.ts")), quick=True),
    Trap("ffconcat, relative name", text("a.mp4", "ffconcat version 1.0\nfile {relative}\n"), quick=True),
    Trap("ffconcat, absolute name", text("a.mp4", "ffconcat version 1.0\nfile '{secret}'\n")),
    Trap("ffconcat of an address", text("a.mp4", "ffconcat version 1.0\nfile http://127.0.0.1:{port}/a\n")),
    Trap("ffconcat behind blank lines", text("a.mp4", "\n\n ffconcat version 1.0\nfile {relative}\n")),
    Trap("DASH", text("a.mpd", "<?xml version='1.0'?><MPD><BaseURL>http://127.0.0.1:{port}/</BaseURL></MPD>")),
    Trap("SDP", text("a.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video {port} RTP/AVP 96\n")),
    Trap("SVG with a picture from elsewhere", text("a.svg", "<svg xmlns='http://www.w3.org/2000/svg'>"
                                                   "<image href='file://{secret}'/></svg>")),
    Trap("path concat:", path("concat:{secret}|{secret}"), ("file_not_found",)),
    Trap("path http:", path("http://127.0.0.1:{port}/a.mp4"), ("file_not_found",)),
    Trap("path subfile:", path("subfile,,start,0,end,0,,:{secret}"), ("file_not_found",)),
    Trap("path pipe:0", path("pipe:0"), ("file_not_found",)), Trap("path data:", path("data:,x"), ("file_not_found",)),
    Trap("device that never ends", path("/dev/zero"), quick=True), Trap("named pipe", pipe, quick=True),
    Trap("file of the kernel", path("/proc/self/environ")), Trap("symlink to a text", link),
    Trap("folder without images", bare), Trap("empty file", data("a.mp4", bytes)),
    Trap("random bytes", data("a.mp4", lambda: os.urandom(200_000))), Trap("ZIP named .mp4", archive),
    Trap("50 GB of nothing", sparse, quick=True), Trap("no index", without_index),
    Trap("sound alone", made(*tone(), "-c:a", "aac", name="a.m4a")),
    Trap("no frame", made(*picture(), *H264, "-frames:v", "0")),
    Trap("index of 268 million frames", patched(b"stsz", 8, b"\x0f\xff\xff\xff"), quick=True),
    Trap("time table of 268 million entries", patched(b"stts", 4, b"\x0f\xff\xff\xff")),
    Trap("ten hours of black", made(*BLACK), quick=True), Trap("video of 16000x16000", made(*HUGE, name="a.mkv")),
    Trap("PNG of 12000x12000 in 20 KB", data("a.png", lambda: png(12_000, 12_000)), quick=True),
    Trap("PNG of 60000x60000", data("a.png", lambda: png(60_000, 60_000))),
    Trap("PNG with a comment of 500 MB", data("a.png", lambda: png(64, 64, (b"zTXt", unpacking(500 << 20)))),
         quick=True),
    Trap("PNG cut off", data("a.png", lambda: png(2000, 2000)[:200])),
)  # fmt: skip


@dataclass(frozen=True)
class Answer:
    trap: Trap
    code: str
    seconds: float
    peak_mb: int
    worker: bool
    left: list[str]
    secret_opened: bool
    connected: bool

    @property
    def good(self) -> bool:
        bounded = self.seconds <= MOST_S and self.peak_mb <= MOST_MB
        quiet = not (self.worker or self.left or self.secret_opened or self.connected)
        return self.code in self.trap.codes and bounded and quiet


def main() -> int:
    parser = argparse.ArgumentParser(description="submit hostile files")
    parser.add_argument("--quick", action="store_true", help="a short list that has one of every kind")
    parser.add_argument("--write", type=Path, help="put the table into this Markdown file, between its markers")
    parser.add_argument("--submit", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.submit is not None:
        return submit(options.submit)
    head = "| input | answer | seconds | peak, MB | kept |\n|---|---|---|---|---|"
    print(head)
    answers, rows = [], []
    for trap in TRAPS:
        if trap.quick or not options.quick:
            with tempfile.TemporaryDirectory() as folder:
                answer = spring(trap, Path(folder))
            answers.append(answer)
            kept = "yes" if answer.good else f"**no**: {answer}"
            rows.append(f"| {trap.name} | {answer.code} | {answer.seconds:.1f} | {answer.peak_mb} | {kept} |")
            print(rows[-1], flush=True)
    if options.write is not None:
        text = options.write.read_text("utf-8")
        before, _, rest = text.partition("<!-- hostile -->\n")
        after = rest.partition("<!-- /hostile -->")[2]
        table = "\n".join([head, *rows])
        options.write.write_text(f"{before}<!-- hostile -->\n{table}\n<!-- /hostile -->{after}", "utf-8")
    return 0 if all(answer.good for answer in answers) else 1


def spring(trap: Trap, folder: Path) -> Answer:
    (folder / "secret").mkdir()
    secret = clip("secret.mp4")(folder / "secret")
    bait = folder / "bait"
    bait.mkdir()
    os.link(secret, bait / secret.name)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        given = trap.make(bait, bait / secret.name, listener.getsockname()[1])
        with opens_of(bait / secret.name) as opened:
            command = [sys.executable, "-m", "tests.contract.hostile", "--submit", given]
            environment = {**os.environ, "TRAP_DATA": str(folder / "data")}
            child = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, env=environment)
            said = child.stdout.read() if child.stdout is not None else ""
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            secret_opened = opened()
        try:
            listener.accept()
            connected = True
        except BlockingIOError:
            connected = False
    died = {"code": f"died: {child.returncode}", "seconds": 0, "worker": False, "left": []}
    answer = json.loads(said) if said else died
    return Answer(trap, peak_mb=usage.ru_maxrss // 1024, secret_opened=secret_opened, connected=connected, **answer)


def submit(given: str) -> int:
    """In a process of its own, whose memory and that of its children the parent reads when it has ended."""
    settings = Settings.from_env({"UPRES_DATA_DIR": os.environ["TRAP_DATA"], "NVIDIA_VISIBLE_DEVICES": "none",
                                  "UPRES_DISK_RESERVE": "0"})  # fmt: skip
    engine = LocalEngine(settings)
    began = time.monotonic()
    try:
        code = f"accepted as {engine.submit(TaskSpec(input_path=given)).kind}"
    except UpresError as error:
        code = error.code if error.remedy else f"{error.code} without a remedy"
    seconds = time.monotonic() - began
    worker = engine.gpu().worker_pid is not None
    engine.stop()
    engine.close()
    ours = ("upres.sqlite3", ".lock", ".log")
    left = [p.name for p in settings.data_dir.rglob("*") if p.is_file() and not any(word in p.name for word in ours)]
    print(json.dumps({"code": code, "seconds": seconds, "worker": worker, "left": left}))
    return 0


@contextmanager
def opens_of(file: Path) -> Iterator[Callable[[], bool]]:
    """Tells, by inotify, whether anybody opened the file meanwhile."""
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init1(IN_NONBLOCK)
    if watch < 0 or libc.inotify_add_watch(watch, os.fsencode(file), IN_OPEN) < 0:
        raise OSError(ctypes.get_errno(), "inotify")

    def opened() -> bool:
        try:
            return bool(os.read(watch, 4096))
        except BlockingIOError:
            return False

    try:
        yield opened
    finally:
        os.close(watch)


if __name__ == "__main__":
    sys.exit(main())
