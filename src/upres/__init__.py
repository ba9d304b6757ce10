"""Upres restores and enlarges video and images. Importing it costs no torch, and a part of it only that part."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from upres.engine import Engine
    from upres.errors import UpresError
    from upres.tasks import Task, TaskSpec

__all__ = ["Engine", "Task", "TaskSpec", "UpresError"]

_HOMES = {"Engine": "engine", "UpresError": "errors", "Task": "tasks", "TaskSpec": "tasks"}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"upres.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'upres' has no attribute {name!r}")
