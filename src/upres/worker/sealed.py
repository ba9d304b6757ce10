"""An input opened once and for all. Where UPRES_ROOTS limits paths, who can write there could swap a checked file for a
link to another one before it is read; here it is opened without following any link and read through that descriptor.

Linux only: elsewhere the check is repeated right before the work and the gap after it stays. Knows nothing of media.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from upres.errors import PathRefused
from upres.limits import beneath
from upres.queue.store import Claim
from upres.settings import Settings


@contextmanager
def sealed(claim: Claim, settings: Settings) -> Iterator[Claim]:
    """The claim with an input path that cannot come to mean another file. Raises PathRefused, FileMissing."""
    spec = claim.task.spec
    path, roots = Path(spec.input_path), settings.all_roots
    if not roots:
        yield claim
        return
    for used in (path, Path(spec.output_path).parent) if spec.output_path is not None else (path,):
        if beneath(used, roots) != used:
            raise _moved(used)
    if not Path("/proc/self/fd").is_dir():
        yield claim
        return
    home = settings.data_dir / "inputs" / claim.task.id
    with ExitStack() as stack:
        descriptor = _opened(path)
        stack.callback(os.close, descriptor)
        shutil.rmtree(home, ignore_errors=True)  # of an attempt that died
        home.mkdir(parents=True, mode=0o700)
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        (home / path.name).symlink_to(f"/proc/{os.getpid()}/fd/{descriptor}")
        order = spec.model_copy(update={"input_path": str(home / path.name)})
        yield replace(claim, task=claim.task.model_copy(update={"spec": order}))


def _opened(path: Path) -> int:
    """A descriptor of the file, for which no part of `path` was followed as a link."""
    folder = os.open(path.anchor, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in path.parts[1:-1]:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        return os.open(path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except OSError as error:  # ELOOP or ENOTDIR: a link stands where a file or folder was
        raise _moved(path) from error
    finally:
        os.close(folder)


def _moved(path: Path) -> PathRefused:
    return PathRefused(f"{path.name} is no longer where it was when the task was accepted", remedy="submit it again")
