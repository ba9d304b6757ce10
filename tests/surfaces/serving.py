"""`upres serve` as a process of its own, the patience to wait for what it does, and an engine that speaks to it."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from tests import support
from upres.engine import open_engine
from upres.remote import RemoteEngine
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


def remote_to(url: str, settings: Settings, output_dir: Path) -> Iterator[RemoteEngine]:
    engine = open_engine(replace(settings, remote_url=url, output_dir=output_dir))
    assert isinstance(engine, RemoteEngine)
    yield engine
    engine.close()
