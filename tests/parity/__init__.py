"""Holds Upres against files of recorded reference tensors, whatever configuration they were recorded with.

A file is recognised by what is in it, never by its name. Each gives one or more checks: an error and its tolerance.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .recording import Check


def check_file(path: Path) -> Sequence[Check]:
    """Raises NotUnderstood for a file that is no recording we know, and what our own code raises."""
    from .checks import check_file as check  # whoever wants networks alone needs less than this imports

    return check(path)
