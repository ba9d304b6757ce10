"""What happens at a named point (`upres.queue.points`): whoever reaches it first kills, stops or starves itself.

A ticket is a file named `<point>+<deed>` in the folder CHAOS_DEEDS; reaching the point uses it up, in one process only.
"""

from __future__ import annotations

import os
import signal
import sqlite3
from pathlib import Path

from upres.queue import points

DEEDS = ("kill", "stop", "starve")


def install() -> None:
    folder = Path(os.environ["CHAOS_DEEDS"])

    def hook(point: str) -> None:
        for deed in DEEDS:
            ticket = folder / f"{point}+{deed}"
            if ticket.exists() and _tear(ticket):
                _do(deed)

    points.install(hook)


def issue(folder: Path, point: str, deed: str = "kill") -> Path:
    """Returns what the ticket is called once it is used: it then holds the pid of the process."""
    folder.mkdir(parents=True, exist_ok=True)
    ticket = folder / f"{point}+{deed}"
    used = ticket.with_name(ticket.name + ".used")
    used.unlink(missing_ok=True)
    ticket.touch()
    return used


def _tear(ticket: Path) -> bool:
    mine = ticket.with_name(f"{ticket.name}.{os.getpid()}")
    try:
        ticket.rename(mine)
    except FileNotFoundError:  # another process was first
        return False
    mine.write_text(str(os.getpid()))
    mine.rename(ticket.with_name(ticket.name + ".used"))
    return True


def _do(deed: str) -> None:
    if deed == "starve":
        raise sqlite3.OperationalError("database or disk is full")
    os.kill(os.getpid(), signal.SIGKILL if deed == "kill" else signal.SIGSTOP)
