"""Exit statuses by which a worker tells its keeper how it ended. Any other status is a death."""

EX_DONE = 0  # nothing to do, or told to stop
EX_DEVICE = 70  # sysexits.h, EX_SOFTWARE: the device failed under it and may be used again only by another process
EX_HELD = 75  # EX_TEMPFAIL: another worker holds the slot
EX_OUTDATED = 78  # EX_CONFIG: the queue's next task was ordered by a newer Upres
