"""The verbs engines share: cut a piece for a preview, compare two files, make a contact sheet. Knows no store."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from upres.errors import InvalidParameter
from upres.media.probe import MediaInfo, probe
from upres.pictures.excerpt import cut, of_part
from upres.pictures.layout import contact_sheet, pair
from upres.pictures.stills import still
from upres.pictures.values import Comparison, Excerpt, Focus
from upres.tasks import TaskSpec

SHEET_FRAMES = 6
DECODED_PIXELS = 1e9  # about 500 frames of 1080p: what one may decode to find exact moments
KEEP_CUTS_S = 24 * 3600.0  # a cut is the "before" of its preview, until nobody asks any more
BUDGET_S = 20.0  # what a preview may take that was not told how long it shall be
SHORTEST_FRAMES = 5  # one batch: fewer frames do not show what a video model does


def preview_frames(info: MediaInfo, excerpt: Excerpt, seconds_per_frame: float) -> int:
    """How many frames a preview restores, at most all there are."""
    if info.kind == "image":
        return 1
    if excerpt.seconds is not None:
        wanted = round(excerpt.seconds * info.fps)
    else:
        affordable = int(BUDGET_S / seconds_per_frame) if seconds_per_frame > 0 else info.frames
        wanted = min(round(info.fps), max(SHORTEST_FRAMES, affordable))
    return max(1, min(wanted, info.frames))


@contextmanager
def cut_for_preview(info: MediaInfo, spec: TaskSpec, excerpt: Excerpt, frames: int, folder: Path) -> Iterator[TaskSpec]:
    """The order for the piece, which now lies in `folder`; it goes again if the order fails."""
    place = folder / secrets.token_hex(6)
    place.mkdir(parents=True)
    try:
        path = cut(info, excerpt, frames, place)
        yield of_part(spec, path, info, excerpt.box(info)[2])
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise


def sweep(folder: Path) -> None:
    """Removes old cuts from a folder that holds nothing else."""
    for old in folder.glob("*") if folder.is_dir() else ():
        if time.time() - old.stat().st_mtime > KEEP_CUTS_S:
            shutil.rmtree(old, ignore_errors=True)


def compare(before: Path, after: Path, at_s: float | None, focus: Focus) -> Comparison:
    """The same moment of two files; the middle if none is named. Raises InvalidParameter, FileMissing, MediaFailed."""
    first, second = probe(before), probe(after)
    shared_s = min(first.duration_s, second.duration_s)
    if at_s is not None and not 0 <= at_s <= shared_s:
        raise InvalidParameter(f"at={at_s:g} lies outside the clip", remedy=f"give 0 to {shared_s:.3f} seconds")
    moment = shared_s / 2 if at_s is None else at_s
    new = still(second, moment)
    shown = pair(still(first, moment), new, focus)
    return Comparison(before=shown.before, after=shown.after, at_s=round(moment, 3), duration_s=round(shared_s, 3),
                      width=new.width, height=new.height, detail=shown.detail)  # fmt: skip


def sheet(path: Path) -> bytes:
    """Six moments of a video or the image, as one JPEG. Raises FileMissing, MediaFailed.

    Of a long or large video they are the key frames before these moments: to decode up to them would take too long.
    """
    info = probe(path)
    if info.kind == "image":
        return contact_sheet([(still(info, 0), "")])
    count = min(SHEET_FRAMES, info.frames)
    moments = [info.duration_s * (number + 0.5) / count for number in range(count)]
    exact = info.frames * info.width * info.height <= DECODED_PIXELS
    return contact_sheet([(still(info, at_s, exact=exact), _clock(at_s)) for at_s in moments])


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{minutes:.0f}:{rest:04.1f}"
