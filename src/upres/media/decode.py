"""The frames of a video as RGB arrays, in order, in constant memory. Knows nothing of models, sound or writing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import numpy as np

from upres.errors import InvalidInput, InvalidParameter, MediaFailed
from upres.media.ffmpeg import STALL_S, FfmpegProcess
from upres.media.probe import CONTAINERS, MAX_PIXELS, MediaInfo

# swscale without these flags is off by up to 2.75 levels with a mean of -1.1 for limited-range 4:2:0; with them by 0.5,
# the rounding itself (measured on 256 colours, bt601 and bt709, both ranges, ffmpeg 9.0.2).
SCALE_FLAGS = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
DECODER_THREADS = min(8, os.cpu_count() or 1)  # each holds reference frames: memory must not grow with the machine
LARGEST_ALLOCATION_BYTES = 1 << 30
HD_HEIGHT = 720  # untagged video from this height on is bt709, below it bt601: what broadcasting did
# the tagged matrix -> the name swscale knows it by; what is missing here is left to the untagged rule
SCALE_MATRICES = {"bt709": "bt709", "fcc": "fcc", "bt470bg": "bt601", "smpte170m": "bt601", "smpte240m": "smpte240m",
                  "bt2020nc": "bt2020", "bt2020c": "bt2020"}  # fmt: skip
RGB_FORMATS = ("gbr", "rgb", "bgr", "argb", "abgr", "0rgb", "0bgr", "pal8", "x2rgb", "x2bgr")


class FrameReader:
    """`with FrameReader(info) as reader: for frames in reader:` yields `T H W C`, uint8, RGB, C-contiguous, T <= block.

    Enter it in a long-living thread (see FfmpegProcess); iterate in any one; `close` from any other ends a blocked
    read.
    A damaged file yields what can be decoded; `warnings` then says how much is missing once the iteration has ended.
    """

    def __init__(self, info: MediaInfo, block: int = 8, *, stall_s: float = STALL_S) -> None:
        if info.kind != "video":
            raise InvalidParameter(f"{info.path.name} is an {info.kind}", remedy="read it with read_image")
        if block < 1:
            raise InvalidParameter(f"block={block}", remedy="use at least 1 frame")
        self._info, self._block = info, block
        self._process = FfmpegProcess(
            decoder_arguments(info), doing=f"decoding {info.path.name}", yields=True, stall_s=stall_s
        )
        self.frames_read = 0
        self.warnings: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        self._process.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.__exit__(kind, error, trace)

    def __iter__(self) -> Iterator[np.ndarray]:
        shape = (self._block, self._info.height, self._info.width, 3)
        frame_bytes = self._info.height * self._info.width * 3
        count = self._block
        while count == self._block:
            frames = np.empty(shape, np.uint8)
            count, rest = divmod(self._process.read_into(frames.data.cast("B")), frame_bytes)
            if rest:
                self._process.finish()
                raise MediaFailed(
                    f"{self._info.path.name} ended {rest} bytes into frame {self.frames_read + count}",
                    remedy="try again; if it happens again, convert the file to MP4",
                )
            self.frames_read += count
            if count:
                yield frames[:count]
        self._process.finish()
        self._judge()

    def close(self) -> None:
        self._process.close()

    def _judge(self) -> None:
        """ffmpeg's exit status says nothing of damage: it is 0 for a file cut in the middle."""
        name, expected = self._info.path.name, self._info.frames
        if not self.frames_read:
            raise InvalidInput(f"{name} has no frame that can be decoded", remedy="export it again")
        if self.frames_read != expected:
            self.warnings = (f"{self.frames_read} of {expected} frames of {name} could be decoded",)


def decoder_arguments(info: MediaInfo) -> list[str]:
    return [
        "-protocol_whitelist", "file", "-format_whitelist", CONTAINERS, "-max_pixels", str(MAX_PIXELS),
        "-max_alloc", str(LARGEST_ALLOCATION_BYTES), "-threads", str(DECODER_THREADS),
        "-apply_cropping", "codec",  # a container's cropping is not in MediaInfo's size
        "-i", f"file:{info.path}", "-map", "0:V:0", "-an", "-sn", "-dn", "-fps_mode", "passthrough",
        "-vf", to_rgb_filter(info), "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1",
    ]  # fmt: skip


def to_rgb_filter(info: MediaInfo) -> str:
    """Stored picture -> full-range RGB of exactly MediaInfo's size, also when the size changes in mid-stream."""
    size = f"scale=w={info.width}:h={info.height}:flags={SCALE_FLAGS}"
    matrix, color_range = _matrix_and_range(info)
    if info.hdr:
        return f"{_tone_map(info, matrix, color_range)},{size},format=rgb24"
    interlaced = ":interl=1" if info.interlaced else ""
    return f"{size}:in_color_matrix={matrix}:in_range={color_range}:out_range=pc{interlaced},format=rgb24"


def _matrix_and_range(info: MediaInfo) -> tuple[str, str]:
    if info.pix_fmt.startswith(RGB_FORMATS):
        return "auto", "pc"
    untagged = "bt709" if info.height >= HD_HEIGHT else "bt601"
    matrix = untagged if info.matrix is None else SCALE_MATRICES.get(info.matrix, untagged)
    return matrix, "tv" if info.color_range is None else info.color_range


def _tone_map(info: MediaInfo, matrix: str, color_range: str) -> str:
    """PQ or HLG light to SDR: mobius keeps what is below diffuse white (203 cd/m2, ITU-R BT.2408) almost as it is.

    swscale's own conversion clips everything above 203 cd/m2 when the file has no mastering metadata (measured).
    """
    tags = {"bt2020": "bt2020nc", "bt601": "smpte170m", "auto": "gbr"}
    return (
        f"setparams=color_primaries=bt2020:color_trc={info.transfer}"
        f":colorspace={tags.get(matrix, matrix)}:range={color_range}"
        ",zscale=transfer=linear:npl=203:filter=bicubic,format=gbrpf32le,zscale=primaries=bt709"
        ",tonemap=tonemap=mobius:desat=0,zscale=transfer=bt709:range=full,format=gbrp"
    )
