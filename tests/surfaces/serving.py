"""`upres serve` as a process of its own, and the patience to wait for what it does."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from tests import support
from upres.settings import Settings

PATIENCE_S = 60  # only what hangs takes that long
DOCUMENTED_PORT = 8200
UPLOAD_CAP_MB = 2  # of the shared server
SERVE = ("upres.surfaces.cli", "serve")

until = partial(support.until, patience_s=PATIENCE_S)


@dataclass
class Served:
    process: subprocess.Popen[str]
    url: str = ""
    log: list[str] = field(default_factory=list)
    heard: threading.Event = field(default_factory=threading.Event)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            found = re.search(r"listens on (http://\S+)", line)
            if found:
                self.url = found.group(1)
                self.heard.set()
        self.heard.set()


@contextmanager
def serving(settings: Settings, module: Sequence[str] = SERVE, **variables: str) -> Iterator[Served]:
    env = {**settings.to_env(), "PORT": "0", **variables}
    process = subprocess.Popen([sys.executable, "-m", *module], env=env, text=True,
                               encoding="utf-8", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # fmt: skip
    served = Served(process)
    reader = threading.Thread(target=served.read_log)
    reader.start()
    try:
        assert served.heard.wait(PATIENCE_S) and served.url, "".join(served.log)
        yield served
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
        reader.join()
        assert process.stderr is not None
        process.stderr.close()

