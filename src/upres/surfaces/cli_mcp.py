"""`upres mcp`: serve MCP over stdin and stdout, or put the server into a client's configuration."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from upres.settings import SETTINGS, Settings
from upres.surfaces.mcp_install import PLACES, Client, change, config_path, local_entry, remote_entry


def add_options(mcp: argparse.ArgumentParser, run: Callable[..., int]) -> None:
    _server_options(mcp)
    actions = mcp.add_subparsers(metavar="install")
    about = "show, or with --write make, the entry in a client's configuration"
    install = actions.add_parser("install", help=about, description=about)
    install.set_defaults(run=run)
    install.add_argument("--client", required=True, choices=get_args(Client))
    install.add_argument("--write", action="store_true", help="change the file; a copy of it is kept beside it")
    install.add_argument("--project", type=Path, metavar="DIR", help="the file of a project instead of the user's")
    install.add_argument("--name", default="upres", help="what the client calls the server (upres)")
    install.add_argument("--url", help="use a running `upres serve`, as in http://localhost:8200/mcp")
    _server_options(install)


def _server_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--read-only", action="store_true", default=argparse.SUPPRESS,
                        help="offer only tools that change nothing (UPRES_MCP_READ_ONLY)")  # fmt: skip
    parser.add_argument("--tools", choices=("all", "core"), default=argparse.SUPPRESS,
                        help="which tools are offered (UPRES_MCP_TOOLS, all)")  # fmt: skip
    parser.add_argument("--images", choices=("yes", "no"), default=argparse.SUPPRESS,
                        help="put small pictures into results (UPRES_MCP_IMAGES, yes)")  # fmt: skip


def serve(options: argparse.Namespace, settings: Settings) -> int:
    from upres.mcp_server import serve as serve_stdio

    given: dict[str, Any] = {}
    if "read_only" in options:
        given["mcp_read_only"] = True
    if "tools" in options:
        given["mcp_tools"] = options.tools
    if "images" in options:
        given["mcp_images"] = options.images == "yes"
    serve_stdio(dataclasses.replace(settings, **given))
    return 0


def install(options: argparse.Namespace, settings: Settings) -> int:
    client: Client = options.client
    if options.url is not None:
        entry = remote_entry(client, options.url, settings.token)
    else:
        entry = local_entry(client, _flags(options), _variables())
    planned = change(client, config_path(client, options.project, os.environ), options.name, entry)
    if not planned.diff:
        print(f"{planned.path} has this entry already")
        return 0
    print(planned.diff.replace(settings.token, "***") if settings.token else planned.diff, end="")
    if not options.write:
        print(f"nothing was changed; --write changes {planned.path}", file=sys.stderr)
        return 0
    backup = planned.write()
    kept = f"; as it was: {backup}" if backup is not None else ""
    print(f"written{kept}. Restart {PLACES[client].title} to see it.", file=sys.stderr)
    return 0


def _flags(options: argparse.Namespace) -> list[str]:
    flags = ["--read-only"] if "read_only" in options else []
    flags += ["--tools", options.tools] if "tools" in options else []
    return flags + (["--images", options.images] if "images" in options else [])


def _variables() -> dict[str, str]:
    """The settings of this shell: the client will not have them."""
    return {row.variable: os.environ[row.variable] for row in SETTINGS if os.environ.get(row.variable, "").strip()}
