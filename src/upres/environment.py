"""What programs that read what strangers made are told of our environment. Knows none of these programs."""

from __future__ import annotations

import os

# Where programs, libraries and temporary files are, which cards may be used, which language is spoken: as Linux, macOS
# and Windows spell it. Not a word of ours, nor of credentials, nor FFREPORT, which has ffmpeg write logs.
TOLD = frozenset({
    "PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH", "HOME", "TMPDIR", "TMP", "TEMP",
    "LANG", "LANGUAGE", "TZ", "SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "COMSPEC", "PATHEXT", "USERPROFILE", "APPDATA",
    "LOCALAPPDATA", "PROGRAMDATA", "NUMBER_OF_PROCESSORS",
})  # fmt: skip
TOLD_BEGINNINGS = ("LC_", "CUDA_", "NVIDIA_", "PYTHON")  # PYTHON…: readers are Python, and import what we do


def bare_environment(**also: str) -> dict[str, str]:
    """For such a program, or one that needs as little; `also` comes on top."""
    told = {name: value for name, value in os.environ.items() if name in TOLD or name.startswith(TOLD_BEGINNINGS)}
    return told | also
