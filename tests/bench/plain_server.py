"""The smallest MCP server in front of a REST API: the SDK's decorators and requests. mcp_surface.py measures it."""

import os
from typing import Any

import requests
from mcp.server import MCPServer

API = os.environ["SEEDVR2_API_URL"]
mcp = MCPServer("plain")


@mcp.tool()
def get_queue_status() -> dict[str, Any]:
    """The queue."""
    return requests.get(f"{API}/api/queue/status", timeout=30).json()


@mcp.tool()
def get_gpu_status() -> dict[str, Any]:
    """The GPU."""
    return requests.get(f"{API}/api/gpu/status", timeout=30).json()


@mcp.tool()
def list_available_models() -> dict[str, Any]:
    """The models."""
    return requests.get(f"{API}/api/models", timeout=30).json()


@mcp.tool()
def get_task_status(task_id: str) -> dict[str, Any]:
    """A task."""
    return requests.get(f"{API}/api/status/{task_id}", timeout=30).json()


@mcp.tool()
def get_queue_history(limit: int = 20) -> dict[str, Any]:
    """Finished tasks."""
    return requests.get(f"{API}/api/queue/history", params={"limit": limit}, timeout=30).json()


@mcp.tool()
def submit_video_task(
    file_path: str, resolution: int = 1080, batch_size: int = 5, dit_model: str | None = None,
    color_correction: str = "lab", seed: int = 42,
) -> dict[str, Any]:  # fmt: skip
    """Restore a video."""
    data = {"resolution": resolution, "batch_size": batch_size, "color_correction": color_correction, "seed": seed}
    with open(file_path, "rb") as file:
        return requests.post(f"{API}/api/process", data=data, files={"file": file}, timeout=600).json()


if __name__ == "__main__":
    mcp.run("stdio")
