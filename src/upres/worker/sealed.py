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

from upres.limits import DESCRIPTORS, beneath, moved, opened
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
            raise moved(used)
    if not DESCRIPTORS.is_dir():
        yield claim
        return
    home = settings.data_dir / "inputs" / claim.task.id
    with ExitStack() as stack:
        descriptor = opened(path)
        stack.callback(os.close, descriptor)
        shutil.rmtree(home, ignore_errors=True)  # of an attempt that died
        home.mkdir(parents=True, mode=0o700)
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        (home / path.name).symlink_to(f"/proc/{os.getpid()}/fd/{descriptor}")
        order = spec.model_copy(update={"input_path": str(home / path.name)})
        yield replace(claim, task=claim.task.model_copy(update={"spec": order}))
