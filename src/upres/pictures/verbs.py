"""The verbs engines share: cut a piece for a preview, compare two files, make a contact sheet. Knows no store."""

from __future__ import annotations

import io
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from upres.errors import InvalidParameter
from upres.media.probe import MediaInfo, probe
from upres.pictures.excerpt import cut, of_part
from upres.pictures.layout import contact_sheet, pair
from upres.pictures.stills import still
from upres.pictures.values import Comparison, Excerpt, Focus, Piece
from upres.restore.segments import Segments
from upres.tasks import TaskSpec

SHEET_FRAMES = 6
DECODED_PIXELS = 1e9  # about 500 frames of 1080p: what one may decode to find exact moments
KEEP_CUTS_S = 24 * 3600.0  # a cut is the "before" of its preview, until nobody asks any more
BUDGET_S = 20.0  # what a preview may take that was not told how long it shall be
SHORTEST_FRAMES = 5  # one batch: fewer frames do not show what a video model does
PIECE = ".upres-piece.json"  # beside a cut: which piece it is
JPEG_QUALITY = 85  # of a frame that is shown as it is
ROUNDED_S = 0.001  # moments are told to the millisecond, and given back to us so


@dataclass(frozen=True, slots=True)
class Footage:
    """A file to look at, and which piece of the named clip it holds."""

    path: Path
    piece: Piece

    @classmethod
    def of(cls, path: Path, task_input: Path | None = None) -> Footage:
        """`path` shows what a task's input does: its restored file, or the input itself. None: that is elsewhere."""
        if task_input is None:
            return cls(path, Piece())
        try:
            return cls(path, Piece.model_validate_json(task_input.with_name(PIECE).read_bytes()))
        except FileNotFoundError:
            return cls(path, Piece())


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
    place = folder / secrets.token_hex(8)  # a name that the janitor knows as an upload's
    place.mkdir(parents=True)
    try:
        path = cut(info, excerpt, frames, place)
        piece = Piece(start_s=excerpt.begins_s(info, frames), place=excerpt.place)
        path.with_name(PIECE).write_text(piece.model_dump_json())
        yield of_part(spec, path, info, excerpt.box(info)[2])
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise


def sweep(folder: Path) -> None:
    """Removes old cuts from a folder that holds nothing else."""
    for old in folder.glob("*") if folder.is_dir() else ():
        if time.time() - old.stat().st_mtime > KEEP_CUTS_S:
            shutil.rmtree(old, ignore_errors=True)


def compare(before: Footage, after: Footage, at_s: float | None, focus: Focus) -> Comparison:
    """The same moment of two files; the middle if none is named. Raises InvalidParameter, FileMissing, MediaFailed."""
    if before.piece.place != after.piece.place:
        raise InvalidParameter("the two show different parts of the picture", remedy="preview both with one region")
    second = probe(after.path)
    first = _like(second, before.path)
    start_s = max(before.piece.start_s, after.piece.start_s)
    end_s = min(before.piece.start_s + first.duration_s, after.piece.start_s + second.duration_s)
    if end_s < start_s:
        raise InvalidParameter("the two have no moment in common", remedy="preview both with the same start")
    moment = _moment(at_s, start_s, end_s)
    new = still(second, moment - after.piece.start_s)
    shown = pair(still(first, moment - before.piece.start_s), new, focus)
    return Comparison(before=shown.before, after=shown.after, at_s=round(moment, 3), start_s=round(start_s, 3),
                      duration_s=round(end_s - start_s, 3), width=new.width, height=new.height,
                      detail=shown.detail)  # fmt: skip


def compare_unfinished(before: Footage, work: Path, at_s: float | None, focus: Focus) -> Comparison | None:
    """The same of a task that still runs, from its finished pieces in `work`; the end of them if no moment is named.

    None while there is none. Raises as `compare` does.
    """
    ready = Segments.seen(work)
    if not ready.frames:  # nor ever any of an image
        return None
    first = _like(probe(ready.folder / ready.entries[0].name), before.path)
    start_s, fps = before.piece.start_s, first.fps
    end_s = start_s + float(ready.frames / fps)
    moment = end_s if at_s is None else _moment(at_s, start_s, end_s, what="what is restored so far")
    number = min(int((moment - start_s) * fps + Fraction(1, 1000)), ready.frames - 1)
    entry = next(entry for entry in ready.entries if number < entry.first + entry.frames)
    new = still(probe(ready.folder / entry.name), float((number - entry.first) / fps))
    shown = pair(still(first, float(number / fps)), new, focus)
    return Comparison(before=shown.before, after=shown.after, at_s=round(start_s + float(number / fps), 3),
                      start_s=round(start_s, 3), duration_s=round(end_s - start_s, 3), ready_s=round(end_s, 3),
                      width=new.width, height=new.height, detail=shown.detail)  # fmt: skip


def _like(result: MediaInfo, path: Path) -> MediaInfo:
    """What was restored: a folder of images has the rate that its result got, for it has none of its own."""
    return probe(path, frame_rate=float(result.fps)) if result.fps else probe(path)


def _moment(at_s: float | None, start_s: float, end_s: float, what: str = "the clip") -> float:
    if at_s is None:
        return (start_s + end_s) / 2
    if not start_s - ROUNDED_S <= at_s <= end_s + ROUNDED_S:
        raise InvalidParameter(f"at={at_s:g} lies outside {what}", remedy=f"give {start_s:.4g} to {end_s:.3f} seconds")
    return min(max(at_s, start_s), end_s)


def first_frame(path: Path) -> bytes:
    """As JPEG of its size. Raises FileMissing, InvalidInput, UnsupportedMedia, MediaFailed."""
    jpeg = io.BytesIO()
    still(probe(path), 0).convert("RGB").save(jpeg, "JPEG", quality=JPEG_QUALITY)
    return jpeg.getvalue()


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
