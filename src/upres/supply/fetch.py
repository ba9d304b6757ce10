"""One URL into one file: resumed where it broke off, checked, then renamed. Knows nothing of models or catalogues."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from upres.errors import DiskFull, DownloadFailed

CHUNK_BYTES = 1 << 20
TIMEOUT = httpx.Timeout(60, connect=20)
ATTEMPTS = 5  # in a row without a byte
PAUSE_S = 2.0  # before the second attempt; twice as long before each further one
RETRIED = (408, 425, 429, 500, 502, 503, 504)
# Hugging Face says, where it redirects to its storage, what the file's sha256 is
HUB_SHA256 = "x-linked-etag"

Progress = Callable[[str, int, int], None]  # "fetching" or "checking", bytes done, bytes in all (0: unknown)


class SourceRefused(DownloadFailed):
    """This URL does not give the file, and asking again would not help; another may."""


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Proxies are those of the environment (HTTPS_PROXY, NO_PROXY …), as httpx reads them."""

    client: httpx.Client
    report: Progress
    pause: Callable[[float], None] = time.sleep

    def fetch(self, url: str, target: Path, sha256: str | None) -> str:
        """Leaves the whole file at `target` and returns its sha256; what is fetched lies in `<target>.part` until then.

        Raises SourceRefused, DownloadFailed, DiskFull; what came of the file is kept for the next time.
        """
        part = target.with_name(target.name + ".part")
        resumed = part.exists()
        promised = self._fill(url, part, sha256)
        found = digest(part, self.report)
        if resumed and promised is not None and found != promised:  # what lay there was of another file
            part.unlink()
            promised = self._fill(url, part, sha256)
            found = digest(part, self.report)
        if promised is not None and found != promised:
            part.unlink()
            raise SourceRefused(f"{url} gave a file of sha256 {found}, {promised} was promised",
                                remedy="ask another mirror: HF_ENDPOINT names it")  # fmt: skip
        os.replace(part, target)
        return found

    def _fill(self, url: str, part: Path, sha256: str | None) -> str | None:
        """Fetches until the part is as long as the server says the file is; returns the sha256 it is to have."""
        failures = 0
        while True:
            before = part.stat().st_size if part.exists() else 0
            try:
                promised = self._continue(url, part, before)
                return sha256 if sha256 is not None else promised
            except (httpx.TransportError, _Unfinished) as error:
                failures = 1 if part.exists() and part.stat().st_size > before else failures + 1
                if failures >= ATTEMPTS:
                    raise DownloadFailed(f"{url}: {str(error) or type(error).__name__}", remedy=(
                        "check the network and HTTPS_PROXY, or name a mirror with HF_ENDPOINT; then run it again, "
                        "it goes on where it stopped")) from error  # fmt: skip
                self.pause(PAUSE_S * 2 ** (failures - 1))

    def _continue(self, url: str, part: Path, have: int) -> str | None:
        headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
        with self.client.stream("GET", url, headers=headers, follow_redirects=True, timeout=TIMEOUT) as response:
            if response.status_code in RETRIED:
                raise _Unfinished(f"the server answered {response.status_code}")
            if response.status_code == 416 and _whole(response) == have:
                return _promised_sha256(response)
            if response.status_code == 416 or (response.status_code == 206 and _start(response) != have):
                part.unlink()
                raise _Unfinished("the server's file is another than the one begun")
            if response.status_code not in (200, 206):
                raise SourceRefused(f"{url}: the server answered {response.status_code}", remedy=_remedy(response))
            self._receive(response, part, have if response.status_code == 206 else 0)
            return _promised_sha256(response)

    def _receive(self, response: httpx.Response, part: Path, have: int) -> None:
        length = int(response.headers.get("content-length", 0))
        total = have + length if length else 0
        free = shutil.disk_usage(part.parent).free
        if length > free:
            raise DiskFull(f"{part.name} needs {length >> 20} MB more, {free >> 20} MB are free in {part.parent}",
                           remedy="free space or set MODEL_DIR, then run it again")  # fmt: skip
        with part.open("ab" if have else "wb") as file:
            for chunk in response.iter_bytes():  # as they come: what is waited for would be lost with the connection
                file.write(chunk)
                have += len(chunk)
                self.report("fetching", have, total)
            file.flush()
            os.fsync(file.fileno())


def digest(path: Path, report: Progress) -> str:
    """sha256, in hexadecimal."""
    sha256, done, total = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            sha256.update(chunk)
            done += len(chunk)
            report("checking", done, total)
    return sha256.hexdigest()


class _Unfinished(Exception):
    """Worth another attempt."""


def _whole(response: httpx.Response) -> int | None:
    """`Content-Range: bytes */123` of an answer that says there is no more."""
    found = re.fullmatch(r"bytes \*/(\d+)", response.headers.get("content-range", ""))
    return int(found[1]) if found else None


def _start(response: httpx.Response) -> int | None:
    found = re.match(r"bytes (\d+)-", response.headers.get("content-range", ""))
    return int(found[1]) if found else None


def _promised_sha256(response: httpx.Response) -> str | None:
    for answer in (*response.history, response):
        value = answer.headers.get(HUB_SHA256, "").strip('"')
        if re.fullmatch(r"[0-9a-f]{64}", value):
            return str(value)
    return None


def _remedy(response: httpx.Response) -> str:
    if response.status_code in (401, 403):
        return "the publisher or a proxy refuses it; name a mirror with HF_ENDPOINT"
    return "fetch the file by other means and run `upres import FILE`"
