"""All files of a model, from their sources into the model directory. Knows nothing of networks or terminals."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
from filelock import FileLock, Timeout

from upres.catalog import MODELS, Catalog
from upres.catalog.model import Model
from upres.errors import DownloadFailed, ModelNotFound
from upres.settings import Settings
from upres.sources import HUB, SOURCES, Source
from upres.supply.child import ONLY, convert
from upres.supply.fetch import Fetcher, SourceRefused, digest
from upres.version import __version__

Progress = Callable[[str, str, int, int], None]  # file, "fetching" or "checking", bytes done, bytes in all


@dataclass(frozen=True, slots=True)
class Fetched:
    path: Path
    how: str  # what was done, in words


def downloadable() -> dict[str, Model]:
    """Every model that can be downloaded, in the catalogue's order."""
    return {model.name: model for model in MODELS if all(file in SOURCES for file in model.files)}


def is_installed(model: Model, settings: Settings) -> bool:
    return Catalog(settings.model_dir).installed(model)


def download(
    name: str, settings: Settings, report: Progress, sources: Mapping[str, Source] = SOURCES
) -> Iterator[Fetched]:
    """One file after the other; those that are there are checked, and fetched again if they are damaged.

    Raises ModelNotFound, DownloadFailed, WeightsInvalid, DiskFull.
    """
    model = _model(name)
    settings.model_dir.mkdir(parents=True, exist_ok=True)
    with httpx.Client(headers={"User-Agent": f"upres/{__version__}"}) as client:
        for file in model.files:
            with _alone(settings.model_dir, file):
                yield _provide(sources[file], settings, client, report)


def _model(name: str) -> Model:
    known = downloadable()
    if name not in known:
        embedded = any(model.name == name for model in MODELS)
        raise ModelNotFound(f"{name} is embedded" if embedded else f"no model {name!r}",
                            remedy=f"can be downloaded: {', '.join(known)}")  # fmt: skip
    return known[name]


def _provide(source: Source, settings: Settings, client: httpx.Client, report: Progress) -> Fetched:
    target = settings.model_dir / source.name

    def tell(doing: str, done: int, total: int) -> None:
        report(source.name, doing, done, total)

    fetcher = Fetcher(client, tell)
    if target.exists() and source.pickle:
        return Fetched(target, "is there")
    if target.exists():
        if source.sha256 is None:
            return Fetched(target, "is there; nobody has published its checksum")
        if digest(target, tell) == source.sha256:
            return Fetched(target, "is there and whole")
    if not source.pickle:
        found = _from_any(source, settings, fetcher, target)
        return Fetched(target, f"fetched, sha256 {found}")
    raw = target.with_suffix(".pt")
    try:
        found = _from_any(source, settings, fetcher, raw)
        made = target.with_name(target.name + ".part")
        convert(raw, {ONLY: made})
        made.replace(target)
    finally:
        raw.unlink(missing_ok=True)
    return Fetched(target, f"fetched and converted, sha256 of the original {found}")


def _from_any(source: Source, settings: Settings, fetcher: Fetcher, target: Path) -> str:
    refusals: list[SourceRefused] = []
    for url in source.urls:
        try:
            return fetcher.fetch(url.replace(HUB, settings.hub_url), target, source.sha256)
        except SourceRefused as error:
            refusals.append(error)
    raise DownloadFailed("; ".join(error.message for error in refusals), remedy=refusals[-1].remedy)


@contextlib.contextmanager
def _alone(folder: Path, file: str) -> Iterator[None]:
    """Two downloads of one file would write into the same part."""
    lock = FileLock(folder / f".{file}.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise DownloadFailed(f"{file} is being downloaded by another process", remedy="wait for it") from None
    with lock:
        yield
