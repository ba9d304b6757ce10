"""`upres`: the command line over the same engine. No logic of its own; stdout carries results, stderr the rest."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, get_args

from upres.engine import Engine, LocalEngine, open_engine
from upres.errors import InvalidSetting, UpresError
from upres.settings import Settings
from upres.surfaces import cli_mcp
from upres.surfaces.cli_output import OUTPUT_OPTIONS, add_output_options
from upres.surfaces.views import TaskStatus
from upres.tasks import ColorCorrection, Task, TaskSpec, TaskState, Tiling, VaeQuality, order
from upres.version import __version__

if TYPE_CHECKING:
    from rich.table import Table

REDRAW_S = 0.5
MOST_COLUMNS = 10_000
EX_FAILED, EX_USAGE, EX_INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 the task or command failed, 2 a bad argument, 130 interrupted (the task is cancelled)."""
    options = parser().parse_args(arguments)
    try:
        settings = Settings.from_env(os.environ)
        status: int = options.run(options, settings)
    except UpresError as error:
        print(f"upres: {error.code}: {error}", file=sys.stderr)
        return EX_USAGE if error.http_status == 400 else EX_FAILED
    except KeyboardInterrupt:
        return EX_INTERRUPTED
    return status


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="upres", description="Restore and enlarge video and images.")
    top.add_argument("--version", action="version", version=f"upres {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace, Settings], int], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    _upscale_options(command("upscale", _upscale, "restore one video or image and wait for it"))
    serve = command("serve", _serve, "serve REST, MCP over HTTP and the documentation")
    serve.add_argument("--host", help="address to bind (UPRES_HOST, 127.0.0.1)")
    serve.add_argument("--port", type=int, help="port to bind (PORT, 8200); 0 takes a free one")
    cli_mcp.add_options(command("mcp", cli_mcp.serve, "serve MCP over stdin and stdout"), cli_mcp.install)
    tasks = command("tasks", _tasks, "list tasks, or show, cancel, retry or remove one")
    tasks.add_argument("action", nargs="?", choices=("list", "show", "cancel", "retry", "rm"), default="list")
    tasks.add_argument("id", nargs="?", help="the task to show, cancel, submit again, or remove with its files")
    tasks.add_argument("--limit", type=int, default=20, help="finished tasks to list (20)")
    command("models", _models, "list models")
    download = command("download", _download, "fetch a model's weights files, or check and repair them")
    download.add_argument("names", nargs="*", metavar="NAME", help="models; without any: list what there is")
    imported = command("import", _import, "take a weights file at hand into the model directory")
    imported.add_argument("file", help="safetensors, GGUF or a pickle; its content says what it is")
    imported.add_argument("--as", dest="wanted", metavar="NAME", help="where its content fits two: which")
    command("stop", _stop, "end this user's workers; running tasks go back to the queue")
    command("doctor", _doctor, "say what is installed, what is missing and what to do")
    return top


def _upscale_options(upscale: argparse.ArgumentParser) -> None:
    default = {name: field.default for name, field in TaskSpec.model_fields.items()}
    upscale.add_argument("input", help="video or image file")
    upscale.add_argument("-o", "--output", help="its suffix says how it is written; default: a generated name")
    upscale.add_argument("--overwrite", action="store_true", help="let --output replace a file")
    upscale.add_argument("--resolution", type=int, help=f"short side of the result, pixels ({default['resolution']})")
    add_output_options(upscale)
    upscale.add_argument("--model", help="a name from `upres models` (the default one)")
    upscale.add_argument("--batch-size", type=int, help=f"frames per window, 4n+1 ({default['batch_size']})")
    upscale.add_argument("--color-correction", choices=get_args(ColorCorrection),
                         help=f"match the input's colours ({default['color_correction']})")  # fmt: skip
    upscale.add_argument("--seed", type=int, help=f"({default['seed']})")
    upscale.add_argument("--vae-tiling", choices=get_args(Tiling), help=f"({default['vae_tiling']})")
    upscale.add_argument("--vae-quality", choices=get_args(VaeQuality), help=f"({default['vae_quality']})")
    upscale.add_argument("--priority", type=int, default=0, help="-100 to 100: higher ones run first (0)")
    upscale.add_argument("--key", help="an idempotency key: the same key gives the same task, however often it is sent")
    upscale.add_argument("--detach", action="store_true", help="print the task's id and return at once")
    upscale.add_argument("--json", action="store_true", help="print the task as JSON instead of the output path")


def _spec(options: argparse.Namespace) -> TaskSpec:
    given = {
        "output_path": options.output, "resolution": options.resolution, "dit_model": options.model,
        "batch_size": options.batch_size, "color_correction": options.color_correction, "seed": options.seed,
        "vae_tiling": options.vae_tiling, "vae_quality": options.vae_quality,
        **{name: getattr(options, name) for name in OUTPUT_OPTIONS},
    }  # fmt: skip
    return order(input_path=options.input, overwrite=options.overwrite,
                 **{name: value for name, value in given.items() if value is not None})  # fmt: skip


def _upscale(options: argparse.Namespace, settings: Settings) -> int:
    engine = open_engine(settings)
    task = engine.submit(_spec(options), key=options.key, priority=options.priority)
    if options.detach:
        print(task.id)
        return 0
    try:
        task = _watch(engine, task)
    except KeyboardInterrupt:
        engine.cancel(task.id)
        print(f"upres: task {task.id} cancelled", file=sys.stderr)
        raise
    if options.json:
        print(TaskStatus.of(task).model_dump_json(exclude_none=True))
    elif task.state is TaskState.COMPLETED:
        print(engine.output(task.id))
    for warning in task.result.warnings if task.result is not None else ():
        print(f"upres: warning: {warning}", file=sys.stderr)
    if task.failure is not None:
        print(f"upres: {task.failure.code}: {task.failure.message}; {task.failure.remedy}", file=sys.stderr)
    return 0 if task.state is TaskState.COMPLETED else EX_FAILED


def _watch(engine: Engine, task: Task) -> Task:
    """A live bar on a terminal, nothing elsewhere."""
    from rich.console import Console  # not paid for by `upres mcp`
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f} frames"),
        TextColumn("{task.fields[fps]:.1f} fps"), TimeRemainingColumn(),
    )  # fmt: skip
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        bar = bars.add_task(task.state, total=task.progress.frames_total, fps=0.0)
        while not task.state.finished:
            task = engine.wait(task.id, REDRAW_S, seen=task)
            phase = task.progress.phase if task.state is TaskState.PROCESSING else task.state
            bars.update(bar, description=f"{task.id} {task.model} {phase}", completed=task.progress.frames_done,
                        total=task.progress.frames_total, fps=task.progress.fps)  # fmt: skip
    return task


def _serve(options: argparse.Namespace, settings: Settings) -> int:
    from upres.surfaces.asgi import serve  # FastAPI is not paid for by the other commands

    given = {name: getattr(options, name) for name in ("host", "port") if getattr(options, name) is not None}
    serve(dataclasses.replace(settings, **given))
    return 0


def _tasks(options: argparse.Namespace, settings: Settings) -> int:
    engine = open_engine(settings)
    if options.action != "list":
        if options.id is None:
            raise InvalidSetting("which task?", remedy=f"upres tasks {options.action} ID")
        verbs = {"show": engine.status, "cancel": engine.cancel, "retry": engine.retry, "rm": engine.remove}
        verb = verbs[options.action]
        task = verb(options.id)
        print(TaskStatus.of(task).model_dump_json(exclude_none=True, indent=2))
        return 0
    from rich.table import Table

    queue = engine.queue()
    table = Table("id", "state", "progress", "model", "input", "output", box=None)
    for task in (*queue.processing, *queue.pending, *engine.history(options.limit)):
        output = task.result.output_path if task.result is not None else ""
        note = task.failure.message if task.failure is not None else output
        table.add_row(task.id, task.state, f"{task.percent}%", task.model, os.path.basename(task.spec.input_path), note)
    _show(table)
    return 0


def _models(options: argparse.Namespace, settings: Settings) -> int:
    from rich.table import Table

    listing = open_engine(settings).models()
    table = Table("name", "params", "precision", "size", "memory", "", "", box=None)
    table.columns[0].min_width = max(len(model.name) for model in listing.models)
    for model in listing.models:
        marks = {"default": listing.default, "loaded": listing.current}
        table.add_row(model.name, model.params, model.precision, model.size, model.vram,
                      ", ".join(mark for mark, name in marks.items() if name == model.name),
                      model.desc["en"])  # fmt: skip
    _show(table)
    return 0


def _show(table: Table) -> None:
    """A row is a line, whole however narrow the terminal is: it may go to a program or a file."""
    from rich.console import Console
    from rich.measure import measure_renderables

    console = Console()
    widest = measure_renderables(console, console.options.update(max_width=MOST_COLUMNS), [table]).maximum
    Console(width=widest).print(table)


def _download(options: argparse.Namespace, settings: Settings) -> int:
    from upres.surfaces.cli_weights import download_models  # httpx is not paid for by the other commands

    return download_models(options, settings)


def _import(options: argparse.Namespace, settings: Settings) -> int:
    from upres.surfaces.cli_weights import import_weights

    return import_weights(options, settings)


def _stop(options: argparse.Namespace, settings: Settings) -> int:
    ended = LocalEngine(settings).stop()
    print(f"ended {len(ended)} worker(s)" if ended else "no worker was running")
    return 0


def _doctor(options: argparse.Namespace, settings: Settings) -> int:
    from upres.doctor import diagnose  # starts a process that imports torch

    healthy = True
    for finding in diagnose(settings):
        healthy = healthy and not finding.remedy
        mark, remedy = ("!!", f" — {finding.remedy}") if finding.remedy else ("ok", "")
        print(f"{mark} {finding.topic:8} {finding.found}{remedy}")
    return 0 if healthy else EX_FAILED


if __name__ == "__main__":
    sys.exit(main())
