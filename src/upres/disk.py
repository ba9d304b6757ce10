"""Whether a result will find room on disk: what is free where, held against what it needs. Knows no task."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

MB = 1e6


@dataclass(frozen=True, slots=True)
class Disk:
    """Free bytes where a result goes and where its pieces are kept until it is published."""

    free_bytes: int
    work_free_bytes: int
    shared: bool  # both are one file system, and its bytes are counted once
    reserve_bytes: int  # stays free

    @classmethod
    def of(cls, result: Path, work: Path, reserve_bytes: int) -> Disk:
        """Neither folder need exist yet."""
        result, work = _existing(result), _existing(work)
        return cls(shutil.disk_usage(result).free, shutil.disk_usage(work).free,
                   result.stat().st_dev == work.stat().st_dev, reserve_bytes)  # fmt: skip

    def shortage(self, result_bytes: int, work_bytes: int) -> str:
        """What is lacking for a result of that size and pieces of that; empty where nothing is."""
        if self.shared:
            return self._lacks("for it", result_bytes + work_bytes, self.free_bytes)
        found = (self._lacks("where results go", result_bytes, self.free_bytes),
                 self._lacks("where unfinished pieces are kept", work_bytes, self.work_free_bytes))  # fmt: skip
        return "; ".join(filter(None, found))

    def _lacks(self, where: str, needs: int, free: int) -> str:
        if free - needs >= self.reserve_bytes:
            return ""
        return (f"about {needs / MB:.0f} MB ({needs} bytes) are needed {where} beside the reserve of "
                f"{self.reserve_bytes / MB:.0f} MB, {free / MB:.0f} MB ({free} bytes) are free")  # fmt: skip


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
