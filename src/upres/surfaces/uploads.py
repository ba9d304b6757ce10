"""Multipart forms whose file goes straight to disk, counted as it comes. Knows nothing of tasks, models or media."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import anyio.to_thread
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from upres.errors import DiskFull, InvalidParameter, UnsupportedMedia, UploadTooLarge, UpresError
from upres.surfaces.rest import BodyRefused

MB = 2**20
BLOCK_BYTES = MB  # what is handed to the parser, and so to the disk, at once
FIELD_BYTES = 4096  # longest text field; a form has a handful of short ones
MAX_FIELDS = 100
FORM_BYTES = MB  # allowed in a body beside the file: boundaries, part headers, text fields
NAME_BYTES = 200  # longest kept file name; file systems stop at 255, results add to it
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,10}$")
_FORBIDDEN = frozenset('<>:"/\\|?*')  # by Windows; on other systems only / is
_JOINERS = frozenset("\u200c\u200d")  # format characters that scripts and emoji need
_RESERVED = re.compile(r"(?i)^(con|prn|aux|nul|com\d|lpt\d)$")  # device names on Windows


@dataclass(frozen=True, slots=True)
class Upload:
    """A received form: its one file, on disk in a directory of its own, and its text fields."""

    path: Path
    filename: str  # as the client called it
    fields: Mapping[str, str]

    def discard(self) -> None:
        shutil.rmtree(self.path.parent)


def safe_name(name: str) -> str:
    """The last part of `name` as a file name any system takes: script and emoji kept, never empty, suffix kept."""
    base = unicodedata.normalize("NFC", name).replace("\\", "/").rpartition("/")[2]
    kept = "".join("_" if char in _FORBIDDEN else char for char in base if char in _JOINERS or char.isprintable())
    kept = kept.rstrip(" .")
    found = _SUFFIX.search(kept)
    suffix = found.group() if found else ""
    stem = kept.removesuffix(suffix).strip(" .")
    if not stem:
        stem = "upload"
    elif _RESERVED.match(stem):
        stem = f"_{stem}"
    return stem.encode()[: NAME_BYTES - len(suffix)].decode(errors="ignore").rstrip(" .") + suffix


async def receive(
    request: Request, directory: Path, max_mb: int, suffixes: Collection[str] = (), *, reserve_mb: int = 0
) -> Upload:
    """Reads a multipart form with one part `file`, whose name must end with one of `suffixes` if there are any.
    Whatever goes wrong, nothing is left on disk.

    Raises InvalidParameter, UnsupportedMedia, UploadTooLarge, DiskFull, as BodyRefused until all is heard; and
    ClientDisconnect.
    """
    try:
        form = _Form(_boundary(request), directory, max_mb, suffixes)
        _check_declared(request, max_mb)
        await anyio.to_thread.run_sync(_check_room, request, directory, reserve_mb)
    except UpresError as error:
        raise BodyRefused(error) from error
    upload = None
    try:
        rest = await _feed(form, request, max_mb)
        await anyio.to_thread.run_sync(form.feed, rest)
        upload = await anyio.to_thread.run_sync(form.finish)
    finally:
        if upload is None:
            form.discard()
    return upload


async def _feed(form: _Form, request: Request, max_mb: int) -> bytes:
    """All blocks but the last, which is returned: what it says wrong is said when all is heard."""
    received = 0
    block = bytearray()
    try:
        async for chunk in request.stream():
            received += len(chunk)
            if received > max_mb * MB + FORM_BYTES:
                raise _too_large(max_mb)
            block += chunk
            if len(block) >= BLOCK_BYTES:
                await anyio.to_thread.run_sync(form.feed, bytes(block))
                block.clear()
    except UpresError as error:
        raise BodyRefused(error) from error
    return bytes(block)


def _check_declared(request: Request, max_mb: int) -> None:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_mb * MB + FORM_BYTES:
        raise _too_large(max_mb)


def _check_room(request: Request, directory: Path, reserve_mb: int) -> None:
    """Of a body of unknown length, only that there is room at all."""
    directory.mkdir(parents=True, exist_ok=True)
    declared = request.headers.get("content-length", "")
    needed = int(declared) if declared.isdecimal() else 0
    if shutil.disk_usage(directory).free - needed < reserve_mb * MB:
        raise DiskFull(f"no room for the upload beside the reserve of {reserve_mb} MB",
                       remedy="free space where UPLOAD_FOLDER points, or lower UPRES_DISK_RESERVE")  # fmt: skip


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise _no_file()
    return boundary


def _no_file(message: str = "No file provided") -> InvalidParameter:
    return InvalidParameter(message, remedy='send a multipart form with a part "file": curl -F "file=@input.mp4"')


def _too_large(max_mb: int) -> UploadTooLarge:
    return UploadTooLarge(f"the upload is larger than {max_mb} MB", remedy="raise MAX_UPLOAD_SIZE on the server")


def _broken(reason: str) -> InvalidParameter:
    return InvalidParameter(f"the form cannot be read: {reason}", remedy="send well-formed multipart/form-data")


def _refused(error: OSError) -> UpresError:
    """What a full disk is called; every other OSError is none of the client's business."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull("no space left for the upload", remedy="free space where UPLOAD_FOLDER points")
    raise error


class _Form:
    """The parser's callbacks: text parts into `fields`, the part `file` into a file, other files nowhere."""

    def __init__(self, boundary: bytes, directory: Path, max_mb: int, suffixes: Collection[str]) -> None:
        self.directory, self.max_mb, self.suffixes = directory, max_mb, suffixes
        self.fields: dict[str, str] = {}
        self.path: Path | None = None
        self.filename = ""
        self.written = 0
        self.complete = False
        self.header, self.header_value = bytearray(), bytearray()
        self.disposition = b""
        self.name = ""
        self.text: bytearray | None = None  # the text part being read
        self.sink: BinaryIO | None = None  # the file part being read
        try:
            self.parser = MultipartParser(boundary, {
                "on_part_begin": self._part_begin, "on_header_field": self._header_field,
                "on_header_value": self._header_value, "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished, "on_part_data": self._part_data,
                "on_part_end": self._part_end, "on_end": self._end,
            })  # fmt: skip
        except FormParserError as error:
            raise _broken(str(error)) from error

    def feed(self, data: bytes) -> None:
        try:
            self.parser.write(data)
        except FormParserError as error:
            raise _broken(str(error)) from error
        except OSError as error:
            raise _refused(error) from error

    def finish(self) -> Upload:
        if not self.complete:
            raise _broken("it ends before its closing boundary")
        if self.path is None:
            raise _no_file()
        return Upload(self.path, self.filename, self.fields)

    def discard(self) -> None:
        if self.sink is not None:
            self.sink.close()
        if self.path is not None:
            shutil.rmtree(self.path.parent)

    def _part_begin(self) -> None:
        self.disposition, self.text, self.sink = b"", None, None

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self.header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self.header_value += data[start:end]

    def _header_end(self) -> None:
        if self.header.lower() == b"content-disposition":
            self.disposition = bytes(self.header_value)
        self.header.clear()
        self.header_value.clear()

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self.disposition)
        self.name = _text(options.get(b"name", b""))
        if b"filename" not in options:
            if len(self.fields) == MAX_FIELDS:
                raise _broken(f"it has more than {MAX_FIELDS} fields")
            self.text = bytearray()
        elif self.name == "file":
            self._open(_text(options[b"filename"]))

    def _open(self, filename: str) -> None:
        if not filename:
            raise _no_file("Empty filename")
        if self.path is not None:
            raise InvalidParameter("more than one file provided", remedy="send one file per request")
        if self.suffixes and Path(filename).suffix.lower() not in self.suffixes:
            raise UnsupportedMedia(f"{filename} is not named as a video is", remedy=f"use {', '.join(self.suffixes)}")
        home = self.directory / secrets.token_hex(8)
        home.mkdir(parents=True, mode=0o700)
        self.path, self.filename = home / safe_name(filename), filename
        self.sink = self.path.open("xb")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self.sink is not None:
            self.written += end - start
            if self.written > self.max_mb * MB:
                raise _too_large(self.max_mb)
            self.sink.write(memoryview(data)[start:end])
        elif self.text is not None:
            self.text += data[start:end]
            if len(self.text) > FIELD_BYTES:
                raise InvalidParameter(f"{self.name} is longer than {FIELD_BYTES} bytes", remedy="shorten it")

    def _part_end(self) -> None:
        if self.sink is not None:
            self.sink.flush()
            os.fsync(self.sink.fileno())  # the task that will name it is stored as durably
            self.sink.close()
        elif self.text is not None:
            self.fields[self.name] = _text(bytes(self.text))

    def _end(self) -> None:
        self.complete = True


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
