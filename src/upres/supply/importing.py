"""A weights file at hand into the model directory, under the name the catalogue looks for. No torch in here."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from upres.catalog import MODELS, Catalog
from upres.catalog.seedvr2 import SEEDVR2_TEXT, SEEDVR2_VAE
from upres.errors import DiskFull, FileMissing, InvalidParameter, WeightsInvalid
from upres.settings import Settings
from upres.sources import SOURCES
from upres.supply.child import convert, identify
from upres.supply.fetch import Progress, digest

# (part, what most values are stored in) -> the catalogue's name; {} stands for "" or "_sharp"
NAMES = {
    ("3b", "F16"): "seedvr2_ema_3b_fp16.safetensors",
    ("3b", "F8_E4M3"): "seedvr2_ema_3b_fp8_e4m3fn.safetensors",
    ("3b", "Q4_K"): "seedvr2_ema_3b-Q4_K_M.gguf",
    ("3b", "Q8_0"): "seedvr2_ema_3b-Q8_0.gguf",
    ("7b", "F16"): "seedvr2_ema_7b{}_fp16.safetensors",
    ("7b", "F8_E4M3"): "seedvr2_ema_7b{}_fp8_e4m3fn.safetensors",
    ("7b", "Q4_K"): "seedvr2_ema_7b{}-Q4_K_M.gguf",
    ("7b", "Q8_0"): "seedvr2_ema_7b{}-Q8_0.gguf",
}


@dataclass(frozen=True, slots=True)
class Imported:
    path: Path
    how: str
    models: tuple[str, ...]  # that the file belongs to
    missing: tuple[str, ...]  # what each of these still lacks, if anything


def import_file(path: Path, settings: Settings, report: Progress, *, wanted: str | None = None) -> Imported:
    """What the file is, its content says; `wanted` only chooses between names that fit it: a 7B and its sharp sister.

    The file stays where it is: ours is a second name of it, or a copy on another disk. Raises FileMissing,
    WeightsInvalid, InvalidParameter, DiskFull.
    """
    source = path.expanduser().resolve()
    if not source.is_file():
        raise FileMissing(f"{path} is no file", remedy="give the path of a weights file")
    part, precision = identify(source)
    name = _name(source, part, precision, wanted, report)
    settings.model_dir.mkdir(parents=True, exist_ok=True)
    target = settings.model_dir / name
    how = _place(source, target, pickle=precision == "pickle")
    users = [model for model in MODELS if name in model.files]
    catalog = Catalog(settings.model_dir)
    missing = catalog.missing(users[0]) if len(users) == 1 else []
    return Imported(target, how, tuple(model.name for model in users), tuple(missing))


def _name(source: Path, part: str, precision: str, wanted: str | None, report: Progress) -> str:
    if part in ("vae", "text"):
        fitting = [SEEDVR2_VAE if part == "vae" else SEEDVR2_TEXT]
    elif (part, precision) in NAMES:
        pattern = NAMES[part, precision]
        fitting = list(dict.fromkeys(pattern.format(middle) for middle in ("", "_sharp")))
    else:
        stored = ", ".join(sorted(type_ for known, type_ in NAMES if known == part))
        raise WeightsInvalid(f"{source.name}: a {part.upper()} transformer stored mostly as {precision}",
                             remedy=f"the catalogue has it as {stored}")  # fmt: skip
    if wanted is not None:
        if wanted not in fitting:
            raise InvalidParameter(f"{source.name} cannot be {wanted}", remedy=f"it can be {' or '.join(fitting)}")
        return wanted
    if len(fitting) == 1 or "sharp" in source.name.lower():
        return fitting[-1]
    found = digest(source, report)
    return next((name for name in fitting if SOURCES[name].sha256 == found), fitting[0])


def _place(source: Path, target: Path, *, pickle: bool) -> str:
    if target.exists():
        if target.samefile(source):
            return "is there already"
        raise InvalidParameter(f"{target} exists", remedy="remove it first")
    made = target.with_name(target.name + ".part")
    made.unlink(missing_ok=True)
    if pickle:
        convert(source, made)
        os.replace(made, target)
        return "converted"
    try:
        os.link(source, target)
        return "linked"
    except OSError:  # another disk, or a file system without links
        pass
    size, free = source.stat().st_size, shutil.disk_usage(target.parent).free
    if size > free:
        raise DiskFull(f"{source.name} has {size >> 20} MB, {free >> 20} MB are free in {target.parent}",
                       remedy="free space or set MODEL_DIR")  # fmt: skip
    shutil.copyfile(source, made)
    os.replace(made, target)
    return "copied"
