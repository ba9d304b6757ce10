"""An order held against its file and its place on disk, before anything is stored. Knows no store and no model."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

from upres.errors import FileMissing, InvalidParameter, UnsupportedMedia
from upres.limits import beneath
from upres.media.codecs import nvenc_writes
from upres.media.nvenc import nvenc_refusal
from upres.media.output import Output, output_for
from upres.media.probe import MAX_S, MediaInfo, probe
from upres.restore.plan import Plan
from upres.tasks import Facts, TaskSpec


def looked_at(spec: TaskSpec, roots: tuple[Path, ...] = (), *, max_s: float = MAX_S) -> MediaInfo:
    """The order's file, if no longer than that.

    Raises FileMissing, InvalidInput, InvalidParameter, PathRefused, UnsupportedMedia.
    """
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
    if not info.files:
        refuse_rate(spec)
    return info


def refuse_rate(spec: TaskSpec) -> None:
    """Of a file that is no folder. Raises InvalidParameter where the order says how many frames a second it has."""
    if spec.says_frame_rate:
        raise InvalidParameter(f"frame_rate={spec.frame_rate:g}: {spec.input_filename} is no folder of images",
                               remedy="leave it out: a video keeps the rate it has")  # fmt: skip


def _near(path: Path) -> str:
    """What the caller may have meant."""
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return f"{path.parent} does not exist either; give a path on the machine that runs Upres"
    alike = difflib.get_close_matches(path.name, names, n=3)
    return f"did you mean {', '.join(alike)}?" if alike else "give a path on the machine that runs Upres"


def with_encoder(spec: TaskSpec, info: MediaInfo, devices: Iterable[str]) -> tuple[TaskSpec, str]:
    """The order with `auto` decided by one frame on each of `devices` (GPUs' UUIDs), and why it is not NVENC.

    Raises InvalidParameter where NVENC was asked for and does not work, and what `output_for` raises.
    """
    if spec.encoder == "software" or info.kind == "image":
        return spec, ""
    output = output_for(spec, info)
    why = _nvenc_refusal(output, tuple(devices))
    if why and spec.encoder == "nvenc":
        raise InvalidParameter(f"encoder=nvenc does not work here: {why}",
                               remedy="use encoder=software, or auto: NVENC only where it works")  # fmt: skip
    chosen = "software" if why else "nvenc"
    return spec.model_copy(update={"encoder": chosen}), f"written by a software encoder: {why}" if why else ""


def _nvenc_refusal(output: Output, devices: tuple[str, ...]) -> str:
    if not nvenc_writes(output.codec, output.bits):
        return f"no NVENC writes {output.codec} of {output.bits} bits"
    if not devices:
        return "tasks run on the CPU"
    return next(filter(None, (nvenc_refusal(output.codec, output.bits, device) for device in devices)), "")


def facts_of(info: MediaInfo, plan: Plan) -> Facts:
    return Facts(
        width=info.width, height=info.height, fps=float(info.fps), duration_s=info.duration_s,
        size_bytes=info.size_bytes, prepared_width=plan.source.width, prepared_height=plan.source.height,
        output_width=plan.frame.width, output_height=plan.frame.height,
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
