"""Does NVIDIA's encoder work here? ffmpeg is asked for one frame. Knows nothing of tasks or devices.

A card can compute and still have no encoder (A100, H100), a driver can be too old for this ffmpeg, and an encoder can
lack a codec or a depth: nothing but a frame tells.
"""

from __future__ import annotations

import functools
import re
import subprocess
import time

from upres.environment import bare_environment
from upres.media.codecs import NVENC, nvenc_arguments
from upres.media.ffmpeg import ffmpeg_path

PATIENCE_S = 20.0  # a driver that must first wake its card takes three
KEEP_S = 300.0  # an answer; a driver may be installed, and other programs end, while we run
FRAME = "color=black:s=256x256:r=25"  # HEVC's smallest is 129x33, AV1's 160x64
_PREFIX = re.compile(r"^(\[[^\]]*\] *)+")


def nvenc_refusal(codec: str, bits: int, device: str = "") -> str:
    """Why one frame of `codec` could not be encoded; empty if it was. `device`: as in CUDA_VISIBLE_DEVICES; empty:
    whatever there is. Asks ffmpeg at most once in KEEP_S.
    """
    return _asked(ffmpeg_path(), codec, bits, device, int(time.monotonic() / KEEP_S))


@functools.lru_cache(maxsize=32)
def _asked(ffmpeg: str, codec: str, bits: int, device: str, _when: int) -> str:
    command = [ffmpeg, "-nostdin", "-hide_banner", "-v", "error", "-f", "lavfi", "-i", FRAME, "-frames:v", "1",
               "-c:v", NVENC[codec], *nvenc_arguments(bits), "-f", "null", "-"]  # fmt: skip
    environment = bare_environment(CUDA_VISIBLE_DEVICES=device) if device else bare_environment()
    try:
        tried = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE_S, check=False,
                               env=environment)  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"{NVENC[codec]} gave no frame in {PATIENCE_S:.0f} s"
    except OSError as error:
        return f"ffmpeg cannot be started: {error.strerror}"
    if not tried.returncode:
        return ""
    said = tried.stderr.decode("utf-8", "replace").strip().partition("\n")[0]  # the cause comes first
    return f"{NVENC[codec]}: {_PREFIX.sub('', said)}" if said else f"{NVENC[codec]} failed without a reason"
