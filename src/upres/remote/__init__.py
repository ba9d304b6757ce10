"""The engine of another machine, over its documented REST API."""

from upres.remote.client import RemoteEngine

__all__ = ["RemoteEngine"]
