"""`upres download` and `upres import`: weights files onto this machine. No logic of its own."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from upres.settings import Settings
from upres.supply.download import download, downloadable, is_installed
from upres.supply.importing import import_file


def download_models(options: argparse.Namespace, settings: Settings) -> int:
    if not options.names:
        return _list(settings)
    for name in options.names:
        with _Bars() as bars:
            for fetched in download(name, settings, bars.show):
                print(f"{fetched.path} {fetched.how}")
    return 0


def import_weights(options: argparse.Namespace, settings: Settings) -> int:
    with _Bars() as bars:
        taken = import_file(
            Path(options.file), settings,
            lambda doing, done, total: bars.show(options.file, doing, done, total), wanted=options.wanted,
        )  # fmt: skip
    for imported in taken:
        print(f"{imported.path} {imported.how}")
        if imported.missing:
            command = f"upres download {imported.models[0]}"
            print(f"upres: {imported.models[0]} still needs {', '.join(imported.missing)}; run `{command}`",
                  file=sys.stderr)  # fmt: skip
    return 0


def _list(settings: Settings) -> int:
    """Names last and never cut: they are there to be copied."""
    for model in downloadable().values():
        params = f"{model.params} {model.variant}".strip()
        state = "installed" if is_installed(model, settings) else ""
        print(f"{params:8} {model.precision:4} {model.size:>5} {model.vram:>5} {state:9} {model.name}")
    return 0


class _Bars:
    """A bar for each thing that is done, on a terminal; nothing elsewhere."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
                   TimeRemainingColumn())  # fmt: skip
        console = Console(stderr=True)
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self._shown = ""

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, file: str, doing: str, done: int, total: int) -> None:
        name = f"{doing} {Path(file).name}"
        if name != self._shown:
            self._shown, self._bar = name, self._progress.add_task(name, total=None)
        self._progress.update(self._bar, completed=done, total=total if total else None)
