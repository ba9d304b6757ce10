"""`python mcp_server.py`: MCP over stdin and stdout. Knows only how to find the package, open the engine and serve."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Also what `upres mcp` and `python -m upres.mcp_server` run."""
    import contextlib
    import logging

    from upres.errors import UpresError
    from upres.settings import Settings

    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what an import prints must not reach the client
            from upres.engine import open_engine
            from upres.surfaces.mcp import build_server
            from upres.surfaces.stdio import run_stdio

            settings = Settings.from_env(os.environ)
            server = build_server(open_engine(settings), settings)
    except UpresError as error:
        sys.exit(f"upres: {error.code}: {error}")
    run_stdio(server)


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
