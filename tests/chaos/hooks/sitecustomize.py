"""Python imports this first in every process that has this folder on its path: the deeds of a chaos run begin here."""

import os
import random
import time

if "CHAOS_DEEDS" in os.environ:
    from tests.chaos import deeds

    deeds.install()

if "CHAOS_CLOCK" in os.environ:
    right, by = time.time, float(os.environ["CHAOS_CLOCK"])
    time.time = lambda: right() + random.choice((-by, 0.0, by))
