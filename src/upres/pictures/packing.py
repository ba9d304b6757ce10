"""A folder of images as one file that keeps every bit, to be sent elsewhere. Knows nothing of tasks or of sending."""

from __future__ import annotations

from pathlib import Path

from upres.media.decode import Reading
from upres.media.encode import FrameWriter
from upres.media.folder import open_reader
from upres.media.output import output_for
from upres.media.probe import MediaInfo
from upres.tasks import TaskSpec


def packed(info: MediaInfo, place: Path) -> Path:
    """PNG in MOV, which has the frame rate as a fraction. Raises InvalidInput, MediaFailed, DiskFull."""
    path = place / f"{info.path.name}.mov"
    output = output_for(TaskSpec(input_path=str(info.path), codec="png"), info)
    with FrameWriter(path, width=info.width, height=info.height, fps=info.fps, output=output) as writer:
        for frames in open_reader(info, 1, Reading(deep=output.deep)):
            writer.write(frames)
    return path
