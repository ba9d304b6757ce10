"""Task ids as FlashVSR's API writes them. Knows nothing of tasks.

That API's ids are UUIDs, and its typed clients parse them as such; ours are eight digits and small letters. So an id is
written here as a UUID that holds it: its first twelve hexadecimal digits are the id read as a number in base 36, the
rest is always -8000-8000-757072657300, the fields of a version 8 UUID (RFC 9562, 5.8: the application's own layout)
and "upres" in ASCII. It needs no table, so it works for a task made through any surface and after any restart; and it
can be read back, which a hash could not. These routes take the short id as well.
"""

from __future__ import annotations

import re
from uuid import UUID

TAIL = "-8000-8000-757072657300"
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
LENGTH = 8
_OURS = re.compile(rf"([0-9a-f]{{8}})-([0-9a-f]{{4}}){TAIL}", re.IGNORECASE)


def as_uuid(task_id: str) -> UUID:
    """Of an id that the store gave."""
    number = f"{int(task_id, 36):012x}"
    return UUID(f"{number[:8]}-{number[8:]}{TAIL}")


def as_id(given: str) -> str:
    """Of a UUID that `as_uuid` made; anything else is returned as it is, for the store to find or not."""
    found = _OURS.fullmatch(given)
    number = int(found[1] + found[2], 16) if found is not None else len(DIGITS) ** LENGTH
    if number >= len(DIGITS) ** LENGTH:
        return given
    task_id = ""
    while len(task_id) < LENGTH:
        number, digit = divmod(number, len(DIGITS))
        task_id = DIGITS[digit] + task_id
    return task_id
