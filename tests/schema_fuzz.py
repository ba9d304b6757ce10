"""schemathesis against a fresh server's own /openapi.json, with its default checks.

    python -m tests.schema_fuzz PATH_OF_SCHEMATHESIS [OPTION …]

schemathesis lives in an environment of its own (`make fuzz` makes it): nothing else here needs it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support import make_settings
from tests.surfaces.serving import serving
from upres.engine import LocalEngine

PATIENCE_S = 120  # to load a model, which starts a worker


def main(schemathesis: str, *options: str) -> int:
    with tempfile.TemporaryDirectory() as folder:
        settings = make_settings(Path(folder) / "data", UPRES_FLASHVSR_MODEL="compact")  # without weights: 503
        with serving(settings) as served:
            config = Path(__file__).with_suffix(".toml")
            command = [str(Path(schemathesis).absolute()), "--config-file", str(config), "run",
                       f"{served.url}/openapi.json", "--no-color", "--request-timeout", str(PATIENCE_S), *options]
            status = subprocess.run(command, cwd=folder).returncode
        LocalEngine(settings).stop()
        sys.stdout.write("".join(line for line in served.log if "Traceback" in line))
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
