"""Prompts for common jobs. Each names the tools in the order in which they lead to a result."""

from __future__ import annotations

from typing import Annotated, Any

from mcp.server import MCPServer
from pydantic import Field

Path = Annotated[str, Field(description="Absolute path of the file, on the machine that runs Upres")]
Folder = Annotated[str, Field(description="Absolute path of the folder")]
Resolution = Annotated[str, Field(description="Short side of the result in pixels, as in 1080 or 2160")]
Model = Annotated[str, Field(description="A model's name, or auto")]

_STEPS = """\
1. probe_media {path}: tell me what it is.
2. plan_task {path} with resolution={resolution} and dit_model={dit_model}: tell me the model and why, the time, the
   size and every warning.
3. preview_task with the same parameters: show me both pictures and judge them yourself: {look}
   If they are not good, try the change below and compare_task the two previews with each other (against).
4. When I agree, {submit} with the same parameters and the plan's model, then wait_for_task until it is completed.
5. compare_task the result; tell me its path and what changed.

{advice}"""


def add_prompts(server: MCPServer[Any]) -> None:
    @server.prompt(title="Restore old footage")
    def restore_old_footage(path: Path, resolution: Resolution = "1080", dit_model: Model = "auto") -> str:
        """Film or tape: noise, scratches, soft picture, faded colour."""
        return _job(path, resolution, dit_model, "submit_video_task",
                    "are faces natural, has grain become a pattern, is there detail that was never there?",
                    "Old footage gains little beyond 1080. color_correction=lab keeps its colours its own; wavelet "
                    "keeps more of a colour cast. A longer batch_size (9, 13, 21) flickers less and needs more "
                    "memory. Deinterlace an interlaced source first: probe_media says whether it is.")  # fmt: skip

    @server.prompt(title="Enlarge anime or drawings")
    def restore_anime(path: Path, resolution: Resolution = "2160", dit_model: Model = "auto") -> str:
        """Flat colours and clean lines."""
        return _job(path, resolution, dit_model, "submit_video_task",
                    "are lines clean and of even width, are flat areas flat, are colours the same?",
                    "Try color_correction=wavelet if flat areas change colour. The models are trained on photographs: "
                    "where lines become texture, a smaller resolution or another model does better.")  # fmt: skip

    @server.prompt(title="Enlarge AI-made video")
    def restore_ai_video(path: Path, resolution: Resolution = "1080", dit_model: Model = "auto") -> str:
        """Generated clips: soft, smeared in motion, flickering."""
        return _job(path, resolution, dit_model, "submit_video_task",
                    "are faces and hands stable over the piece, has smear become texture?",
                    "Preview a piece with motion (start). A longer batch_size (9, 13, 21) steadies it.")  # fmt: skip

    @server.prompt(title="Restore a folder")
    def restore_folder(folder: Folder, resolution: Resolution = "1080", dit_model: Model = "auto") -> str:
        """Every video and image in a folder, one after another."""
        return (
            f"List the video and image files in {folder} with your own file tools (Upres cannot list folders).\n"
            f"1. plan_task each with resolution={resolution} and dit_model={dit_model}; tell me the sum of the times, "
            "the disk needed and every warning, and ask me before you go on.\n"
            "2. preview_task one typical file and show me both pictures.\n"
            "3. Submit them all (submit_video_task, submit_image_task): they queue up and run one after another.\n"
            "4. wait_for_task on each in turn. One that fails does not stop the others: go on, and report its error.\n"
            "5. List each file with the path of its result.\n"
        )


def _job(path: str, resolution: str, dit_model: str, submit: str, look: str, advice: str) -> str:
    return _STEPS.format(path=path, resolution=resolution, dit_model=dit_model, submit=submit, look=look, advice=advice)
