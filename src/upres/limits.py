"""What one task may ask for: paths, size, space on disk, keys. Settings say how much; knows nothing of the queue."""

from __future__ import annotations

import os
from pathlib import Path

from upres.disk import Disk
from upres.errors import DiskFull, FileMissing, InvalidInput, InvalidParameter, PathRefused, TaskTooLarge
from upres.queue.store import Price
from upres.settings import Settings

KEY_LENGTH = 200
MOST_PRIORITY = 100
DESCRIPTORS = Path("/proc/self/fd")  # Linux: an open file can be opened again there, whatever became of its name


def beneath(path: Path, roots: tuple[Path, ...]) -> Path:
    """The absolute path without symbolic links, if it lies under one of `roots` (anywhere if there are none).

    Without roots the path stays as the caller wrote it. Raises FileMissing, InvalidInput, PathRefused.
    """
    try:
        path = path.expanduser().absolute()
        if not roots and path.exists():
            return path
        real = Path(os.path.realpath(path, strict=True))
    except (FileNotFoundError, NotADirectoryError):
        if roots and not any(_within(Path(os.path.realpath(path)), root) for root in roots):
            raise _refused(path) from None  # whether it exists is none of the caller's business
        raise FileMissing(f"{path} does not exist", remedy="give a path on the machine that runs Upres") from None
    except (OSError, ValueError, RuntimeError) as error:  # a NUL byte, a loop of links, an unknown ~user
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InvalidInput(f"{path.name!r} cannot be read ({reason})", remedy="check its name and rights") from error
    if not any(_within(real, root) for root in roots):
        raise _refused(path)
    return real


def opened(path: Path) -> int:
    """A descriptor of the file, for which no part of the absolute `path` was followed as a link. Not on Windows.

    Raises FileMissing, PathRefused.
    """
    folder = os.open(path.anchor, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in path.parts[1:-1]:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        return os.open(path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except FileNotFoundError as error:
        raise FileMissing(f"{path} does not exist", remedy="give a path on the machine that runs Upres") from error
    except OSError as error:  # ELOOP or ENOTDIR: a link stands where a file or folder was
        raise moved(path) from error
    finally:
        os.close(folder)


def moved(path: Path) -> PathRefused:
    return PathRefused(f"{path.name} is no longer where it was when the task was accepted", remedy="submit it again")


def _within(real: Path, root: Path) -> bool:
    return real.is_relative_to(os.path.realpath(root))


def _refused(path: Path) -> PathRefused:
    return PathRefused(f"{path} lies outside the directories tasks may use",
                       remedy="upload the file, or add its directory to UPRES_ROOTS on the server")  # fmt: skip


def check_key(key: str | None) -> None:
    """Raises InvalidParameter."""
    if key is not None and not 0 < len(key) <= KEY_LENGTH:
        raise InvalidParameter(f"an idempotency key of {len(key)} characters", remedy=f"use 1 to {KEY_LENGTH}")


def check_priority(priority: int) -> None:
    """Raises InvalidParameter."""
    if abs(priority) > MOST_PRIORITY:
        raise InvalidParameter(f"priority={priority}", remedy=f"use {-MOST_PRIORITY} to {MOST_PRIORITY}")


def check_size(price: Price, settings: Settings) -> None:
    """Raises TaskTooLarge."""
    gigapixels = price.frames * price.pixels / 1e9
    if gigapixels > settings.max_gigapixels:
        raise TaskTooLarge(
            f"{price.frames} frames of {price.pixels} pixels are {gigapixels:.3g} gigapixels, the limit is "
            f"{settings.max_gigapixels:g}", remedy="use a lower resolution or a shorter clip, or raise "
            "UPRES_MAX_GIGAPIXELS",
        )  # fmt: skip


def check_disk(disk: Disk, result_bytes: int, work_bytes: int) -> None:
    """Raises DiskFull if the result, or its pieces before it is published, would eat into the reserve."""
    lacking = disk.shortage(result_bytes, work_bytes)
    if lacking:
        raise DiskFull(lacking, remedy="free space, choose a smaller size or a codec that needs less, or set "
                       "OUTPUT_FOLDER, UPRES_WORK_FOLDER or UPRES_DISK_RESERVE")  # fmt: skip
