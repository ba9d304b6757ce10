"""The log of operations that every process of a chaos run appends to: one JSON object a line, written at once."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any


class OpLog:
    """`t` of an event is CLOCK_MONOTONIC, which all processes of a machine share and no clock jump moves."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, op: str, **facts: object) -> None:
        line = json.dumps({"op": op, "t": time.clock_gettime(time.CLOCK_MONOTONIC), "pid": os.getpid(), **facts})
        os.write(self._descriptor, line.encode() + b"\n")

    @classmethod
    def of_this_run(cls) -> OpLog:
        return cls(Path(os.environ["CHAOS_LOG"]))


def read(path: Path) -> list[dict[str, Any]]:
    """In the order of time."""
    events = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return sorted(events, key=lambda event: float(event["t"]))
