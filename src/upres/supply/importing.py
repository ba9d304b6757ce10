"""A weights file at hand into the model directory, under the names the catalogue looks for. No torch in here."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from upres.catalog import MODELS, Catalog
from upres.errors import DiskFull, FileMissing, InvalidParameter
from upres.settings import Settings
from upres.supply.child import convert, identify
from upres.supply.fetch import Progress
from upres.supply.naming import name_of


@dataclass(frozen=True, slots=True)
class Imported:
    path: Path
    how: str
    models: tuple[str, ...]  # that the file belongs to
    missing: tuple[str, ...]  # what the first of these still lacks, if the file is the one that makes it that model


def import_file(path: Path, settings: Settings, report: Progress, *, wanted: str | None = None) -> tuple[Imported, ...]:
    """What the file is, its content says; `wanted` only chooses between names that fit it: a 7B and its sharp sister,
    or the versions of FlashVSR. A file of several parts gives as many files.

    The file stays where it is: ours is a second name of it, or a copy on another disk. Raises FileMissing,
    WeightsInvalid, InvalidParameter, DiskFull.
    """
    source = path.expanduser().resolve()
    if not source.is_file():
        raise FileMissing(f"{path} is no file", remedy="give the path of a weights file")
    identity = identify(source)
    names = {part: name_of(source, part, identity.precision, wanted, report) for part in identity.parts}
    settings.model_dir.mkdir(parents=True, exist_ok=True)
    targets = {part: settings.model_dir / name for part, name in names.items()}
    for target in targets.values():
        if target.exists() and not target.samefile(source):
            raise InvalidParameter(f"{target} exists", remedy="remove it first")
    how = _place(source, *targets.values()) if identity.ours else _convert(source, targets)
    return tuple(_imported(target, how, settings) for target in targets.values())


def _imported(target: Path, how: str, settings: Settings) -> Imported:
    users = [model for model in MODELS if target.name in model.files]
    lead = users[0] if users[0].files[0] == target.name else None
    missing = Catalog(settings.model_dir).missing(lead) if lead is not None else []
    return Imported(target, how, tuple(model.name for model in users), tuple(missing))


def _place(source: Path, target: Path) -> str:
    if target.exists():
        return "is there already"
    try:
        os.link(source, target)
        return "linked"
    except OSError:  # another disk, or a file system without links
        pass
    _need_room(source, target.parent)
    made = target.with_name(target.name + ".part")
    shutil.copyfile(source, made)
    os.replace(made, target)
    return "copied"


def _convert(source: Path, targets: Mapping[str, Path]) -> str:
    """All parts or none."""
    folder = next(iter(targets.values())).parent
    _need_room(source, folder)
    made = {part: target.with_name(target.name + ".part") for part, target in targets.items()}
    try:
        convert(source, made)
        for part, target in targets.items():
            os.replace(made[part], target)
    finally:
        for path in made.values():
            path.unlink(missing_ok=True)
    return "converted"


def _need_room(source: Path, folder: Path) -> None:
    size, free = source.stat().st_size, shutil.disk_usage(folder).free
    if size > free:
        raise DiskFull(f"{source.name} has {size >> 20} MB, {free >> 20} MB are free in {folder}",
                       remedy="free space or set MODEL_DIR")  # fmt: skip
