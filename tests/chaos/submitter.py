"""Submits tasks FIRST…LAST-1 of a chaos run, each under its own key, and logs what was asked and what was acknowledged.

    python -m chaos.submitter FIRST LAST INPUT

Started again after a kill it sends every key again, as a client does that lost its replies.
"""

from __future__ import annotations

import os
import sys
import time

from tests.chaos.oplog import OpLog
from upres.engine import LocalEngine
from upres.errors import UpresError
from upres.settings import Settings
from upres.tasks import TaskSpec

RETRY_S = 0.3


def main(first: int, last: int, path: str) -> None:
    log = OpLog.of_this_run()
    engine = _opened()
    for number in range(first, last):
        key, began = f"key-{number}", time.monotonic()
        while True:
            log.write("submit", key=key)
            try:
                task = engine.submit(TaskSpec(input_path=path, resolution=32, seed=number), key=key)
            except UpresError as error:
                log.write("refused", key=key, code=error.code)
                time.sleep(RETRY_S)
                continue
            log.write("acknowledged", key=key, id=task.id, seconds=time.monotonic() - began)
            break


def _opened() -> LocalEngine:
    while True:
        try:
            return LocalEngine(Settings.from_env(os.environ), worker="tests.chaos.worker")
        except UpresError:
            time.sleep(RETRY_S)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
