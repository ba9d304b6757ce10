"""An order held against its file and its place on disk, before anything is stored. Knows no store and no model."""

from __future__ import annotations

import difflib
from pathlib import Path

from upres.errors import FileMissing, InvalidParameter, UnsupportedMedia
from upres.limits import beneath
from upres.media.probe import MAX_S, MediaInfo, probe
from upres.restore.plan import Plan
from upres.tasks import Facts, TaskSpec


def looked_at(spec: TaskSpec, roots: tuple[Path, ...] = (), *, max_s: float = MAX_S) -> MediaInfo:
    """The order's file, if no longer than that. Raises FileMissing, InvalidInput, PathRefused, UnsupportedMedia."""
    try:
        path = beneath(Path(spec.input_path), roots)
    except FileMissing as error:
        raise FileMissing(error.message, remedy=_near(Path(spec.input_path).expanduser().absolute())) from error
    info = probe(path, max_s=max_s, frame_rate=spec.frame_rate)
    if info.files and spec.kind == "image":
        remedy = "submit each image by itself, or the folder as a video of these frames"
        raise UnsupportedMedia(f"{path.name} is a folder of {len(info.files)} images", remedy=remedy)
    if spec.kind is not None and spec.kind != info.kind:
        article = {"image": "an image", "video": "a video"}
        raise UnsupportedMedia(f"{path.name} is {article[info.kind]}, not {article[spec.kind]}",
                               remedy=f"submit it as {article[info.kind]}")  # fmt: skip
    return info


def _near(path: Path) -> str:
    """What the caller may have meant."""
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return f"{path.parent} does not exist either; give a path on the machine that runs Upres"
    alike = difflib.get_close_matches(path.name, names, n=3)
    return f"did you mean {', '.join(alike)}?" if alike else "give a path on the machine that runs Upres"


def facts_of(info: MediaInfo, plan: Plan) -> Facts:
    return Facts(
        width=info.width, height=info.height, fps=float(info.fps), duration_s=info.duration_s,
        size_bytes=info.path.stat().st_size, prepared_width=plan.source.width, prepared_height=plan.source.height,
        output_width=plan.target.width, output_height=plan.target.height,
    )  # fmt: skip


def checked_output(spec: TaskSpec, info: MediaInfo, roots: tuple[Path, ...]) -> Path:
    """Raises InvalidParameter, FileMissing, PathRefused."""
    path = Path(str(spec.output_path)).expanduser().absolute()
    if not path.parent.is_dir():
        raise FileMissing(f"{path.parent} is not a directory", remedy="create it first")
    path = beneath(path.parent, roots) / path.name
    if path.exists() and not spec.overwrite:
        raise InvalidParameter(f"{path} exists", remedy="allow overwriting or choose another name")
    if path == info.path.absolute() or (path.exists() and path.samefile(info.path)):
        raise InvalidParameter(f"{path} is the input itself", remedy="choose another name")
    return path
