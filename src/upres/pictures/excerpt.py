"""A short, lossless piece of a file: what a preview restores instead of the whole. Knows nothing of tasks."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np

from upres.media.decode import Reading, frame_matrix
from upres.media.ffmpeg import FfmpegProcess
from upres.media.folder import open_reader
from upres.media.images import read_image, write_image
from upres.media.output import Output
from upres.media.probe import CONTAINERS, MAX_PIXELS, MediaInfo
from upres.pictures.values import SMALLEST_SIDE, Excerpt
from upres.restore.plan import Size
from upres.tasks import TaskSpec


def cut(info: MediaInfo, excerpt: Excerpt, frames: int, folder: Path) -> Path:
    """Writes `frames` frames of the piece into `folder` and returns the file's path, at which it is whole or not there.

    Raises InvalidParameter, InvalidInput, MediaFailed, DiskFull.
    """
    left, top, size = excerpt.box(info)
    if info.kind == "image":
        path = folder / f"{info.path.stem}_preview.png"
        pixels = read_image(info, deep=info.deep)[top : top + size.height, left : left + size.width]
        write_image(_part(path), np.ascontiguousarray(pixels), _png(info))
        return _part(path).rename(path)
    if info.files:
        first = round(excerpt.begins_s(info, frames) * info.fps)
        return _cut_folder(info, first, frames, (left, top, size), folder / f"{info.path.name}_preview")
    path = folder / f"{info.path.stem}_preview.mkv"  # FFV1 keeps every bit, Matroska what they mean
    arguments = [
        "-protocol_whitelist", "file", "-format_whitelist", CONTAINERS, "-max_pixels", str(MAX_PIXELS),
        "-apply_cropping", "codec", "-ss", f"{max(0.0, excerpt.begins_s(info, frames) - 0.5 / float(info.fps)):.6f}",
        "-i", f"file:{info.path}", "-map", "0:V:0", "-an", "-sn", "-dn", "-frames:v", str(frames),
        "-fps_mode", "passthrough", "-c:v", "ffv1",
        # a part may be too low to be taken for what the whole is: see HD_HEIGHT
        "-vf", f"crop={size.width}:{size.height}:{left}:{top},setparams=colorspace={frame_matrix(info)}",
        *(("-color_range", "pc") if info.color_range == "pc" else ()),  # or ffmpeg would convert the samples
        "-map_metadata", "-1", "-map_chapters", "-1", "-f", "matroska", "-y", f"file:{_part(path)}",
    ]  # fmt: skip
    with FfmpegProcess(arguments, doing=f"cutting {info.path.name}") as process:
        process.finish()
    return _part(path).rename(path)


def _cut_folder(info: MediaInfo, first: int, frames: int, box: tuple[int, int, Size], path: Path) -> Path:
    left, top, size = box
    _part(path).mkdir()
    for number, block in enumerate(islice(open_reader(info, 1, Reading(deep=info.deep, first=first)), frames)):
        pixels = block[0, top : top + size.height, left : left + size.width]
        write_image(_part(path) / f"{number:06}.png", np.ascontiguousarray(pixels), _png(info))
    return _part(path).rename(path)


def _png(info: MediaInfo) -> Output:
    return Output("", "png", 16 if info.deep else 8)


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def of_part(spec: TaskSpec, path: Path, info: MediaInfo, size: Size) -> TaskSpec:
    """The order for a part of the picture: enlarged as many times as `spec` enlarges the whole of `info`."""
    change: dict[str, object] = {"input_path": str(path), "output_path": None, "preview": True}
    if spec.scale is None and min(size.height, size.width) != min(info.height, info.width):
        short = min(size.height, size.width) * spec.resolution // min(info.height, info.width)
        change["resolution"] = max(SMALLEST_SIDE, short)
    return spec.model_copy(update=change)
