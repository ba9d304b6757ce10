"""`python mcp_server.py`: MCP over stdin and stdout. Knows only how to find the package, open the engine and serve."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from upres.settings import Settings

STDOUT, STDERR = 1, 2



def main() -> None:
    """Also what `python -m upres.mcp_server` runs."""
    from upres.settings import Settings

    _serve(lambda: Settings.from_env(os.environ))


def serve(settings: Settings) -> None:
    """What `upres mcp` runs."""
    _serve(lambda: settings)


def _serve(read_settings: Callable[[], Settings]) -> None:
    import gc
    import logging

    from upres.errors import UpresError

    gc.disable()  # an eighth of the start: what imports make is there to stay
    wire = _divert_stdout()  # what an import prints, in Python or in C, must not reach the client
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        from upres.engine import open_engine
        from upres.surfaces.mcp import build_server
        from upres.surfaces.stdio import run_stdio

        settings = read_settings()
        server = build_server(open_engine(settings), settings)
        gc.freeze()
        gc.enable()
    except UpresError as error:
        sys.exit(f"upres: {error.code}: {error}")
    sys.stdout.flush()
    os.dup2(wire, STDOUT)
    try:
        run_stdio(server)  # the SDK diverts stdout in its own way while it serves
    finally:
        os.dup2(STDERR, STDOUT)  # what C code still holds in its buffers is written when the process ends


def _divert_stdout() -> int:
    """Sends descriptor 1 to stderr; returns a descriptor of where it went."""
    wire = os.dup(STDOUT)
    os.dup2(STDERR, STDOUT)
    return wire


def _take_package_from_here() -> None:
    """Run as a script, Python searches this directory first, and `queue/` in it hides the standard library's module."""
    here = os.path.dirname(os.path.realpath(__file__))
    home = os.path.dirname(here)
    sys.path[:] = [place for place in sys.path if os.path.realpath(place) != here]
    if os.path.isfile(os.path.join(home, "upres", "__init__.py")):
        sys.path.insert(0, home)


if __name__ == "__main__":
    if not __package__:
        _take_package_from_here()
    main()
