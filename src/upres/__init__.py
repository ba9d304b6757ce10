"""Upres restores and enlarges video and images. Importing it costs no torch."""

from upres.engine import Engine
from upres.errors import UpresError
from upres.tasks import Task, TaskSpec

__all__ = ["Engine", "Task", "TaskSpec", "UpresError"]
