"""The frames of a video as RGB arrays, in order, in constant memory. Knows nothing of models, sound or writing."""

from __future__ import annotations

import os
import re
import threading
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
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
LONGEST_LINE = 8192
HD_HEIGHT = 720  # untagged video from this height on is bt709, below it bt601: what broadcasting did
# the tagged matrix -> the name swscale knows it by; what is missing here is left to the untagged rule
SCALE_MATRICES = {"bt709": "bt709", "fcc": "fcc", "bt470bg": "bt601", "smpte170m": "bt601", "smpte240m": "smpte240m",
                  "bt2020nc": "bt2020", "bt2020c": "bt2020"}  # fmt: skip
# zscale makes RGB as exactly at a third of swscale's cost, and heeds where a frame's chroma samples lie: swscale takes
# them for centred unless told, where most codecs mean left, and its filter forgets what a frame says of it. In 16-bit
# RGB swscale takes white for 65280 of 65535, 0.4 % too dark (measured on ramps, ffmpeg 9.0.2). zscale has few formats,
# and no odd sizes where chroma is subsampled.
ZSCALE_FORMATS = re.compile(r"yuvj?4(20|22|44)p((9|10|12|14|16)le)?")
CENTRED_CHROMA = ("mjpeg", "mpeg1video")  # for swscale
ZSCALE_MATRICES = {"bt709": "709", "bt601": "170m", "bt2020": "2020_ncl", "smpte240m": "smpte240m", "fcc": "fcc",
                   "auto": "gbr"}  # fmt: skip
FRAME_MATRICES = {"bt2020": "bt2020nc", "bt601": "smpte170m", "auto": "gbr"}  # and setparams
ZSCALE_RANGES = {"tv": "limited", "pc": "full"}
RGB_FORMATS = ("gbr", "rgb", "bgr", "argb", "abgr", "0rgb", "0bgr", "pal8", "x2rgb", "x2bgr")


STAMP = re.compile(rb"@T (-?\d+|NOPTS) (\d+)/(\d+)\n")  # what we ask ffmpeg to say of each frame: see _arguments


@dataclass(frozen=True, slots=True)
class Reading:
    """How frames are wanted. `deep`: 16 bits a sample instead of 8. `first`: frames before it are decoded, not given.

    `tone_map`: PQ and HLG become SDR; without it, samples stay as they are coded. `strict`: damage is an error.
    """

    deep: bool = False
    tone_map: bool = True
    deinterlace: bool = False
    strict: bool = False
    first: int = 0


class FrameReader:
    """`with FrameReader(info) as reader: for frames in reader:` yields `T H W C`, RGB, C-contiguous, T <= block; uint8,
    or uint16 if `how.deep`.

    Enter it in a long-living thread (see FfmpegProcess); iterate in any one; `close` from any other ends a blocked
    read. `times` holds the container time of every frame yielded so far, in ticks of `time_base`.
    A damaged file yields what can be decoded; `warnings` then says how much is missing once the iteration has ended.
    """

    def __init__(
        self, info: MediaInfo, block: int = 8, how: Reading = Reading(), *, stall_s: float = STALL_S
    ) -> None:
        if info.kind != "video":
            raise InvalidParameter(f"{info.path.name} is an {info.kind}", remedy="read it with read_image")
        if block < 1:
            raise InvalidParameter(f"block={block}", remedy="use at least 1 frame")
        self._info, self._block, self._how, self._stall_s = info, block, how, stall_s
        self._said, self._heard = bytearray(), threading.Condition()
        self.times = array("q")
        self.time_base: Fraction | None = None  # known once a frame is
        self._process = FfmpegProcess(
            decoder_arguments(info, how), doing=f"decoding {info.path.name}", yields=True, confined=True,
            listen=self._listen, stall_s=stall_s,
        )  # fmt: skip
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
        dtype = np.dtype("<u2") if self._how.deep else np.dtype(np.uint8)
        shape = (self._block, self._info.height, self._info.width, 3)
        frame_bytes = self._info.height * self._info.width * 3 * dtype.itemsize
        count = self._block
        while count == self._block:
            frames = np.empty(shape, dtype)
            count, rest = divmod(self._process.read_into(frames.data.cast("B")), frame_bytes)
            if rest:
                self._process.finish()
                raise MediaFailed(
                    f"{self._info.path.name} ended {rest} bytes into frame {self.frames_read + count}",
                    remedy="try again; if it happens again, convert the file to MP4",
                )
            self.frames_read += count
            if count:
                self._await_times()
                yield frames[:count]
        self._finish()

    def close(self) -> None:
        self._process.close()

    def _listen(self, said: bytes) -> bytes:
        """Takes the stamps out of what ffmpeg says, maybe from amid another line; an unfinished line is waited for."""
        self._said += said
        kept, end = bytearray(), 0
        with self._heard:
            for stamp in STAMP.finditer(self._said):
                kept += self._said[end : stamp.start()]
                end = stamp.end()
                self.time_base = Fraction(int(stamp[2]), int(stamp[3]))
                guess = self.times[-1] + 1 if self.times else 0
                self.times.append(guess if stamp[1] == b"NOPTS" else int(stamp[1]))
            self._heard.notify()
        line = max(end, self._said.rfind(b"\n") + 1)
        kept += self._said[end:line]
        del self._said[: line if len(self._said) - line < LONGEST_LINE else None]
        return bytes(kept)

    def _await_times(self) -> None:
        with self._heard:
            if not self._heard.wait_for(lambda: len(self.times) >= self.frames_read, self._stall_s):
                raise MediaFailed(f"ffmpeg gave {self.frames_read} frames and {len(self.times)} times")

    def _finish(self) -> None:
        """ffmpeg's exit status says nothing of damage unless it was asked to be strict: it is 0 for a file cut in the
        middle."""
        name, expected = self._info.path.name, self._info.frames
        try:
            self._process.finish()
        except MediaFailed as error:
            if self._how.strict:
                raise damaged(name, self.frames_read + self._how.first, expected) from error
            raise
        read = self.frames_read + self._how.first
        if not read:
            raise InvalidInput(f"{name} has no frame that can be decoded", remedy="export it again")
        if read != expected:
            if self._how.strict:
                raise damaged(name, read, expected)
            self.warnings = (f"{read} of {expected} frames of {name} could be decoded",)


def damaged(name: str, read: int, expected: int) -> InvalidInput:
    return InvalidInput(f"{name} is damaged: {read} of {expected} frames could be decoded and strict was asked for",
                        remedy="export it again, or leave out strict to restore it as far as it goes")  # fmt: skip


def decoder_arguments(info: MediaInfo, how: Reading = Reading()) -> list[str]:
    """-copyts and -enc_time_base demux: the times told of each frame are the container's own, exactly."""
    return [
        *(("-xerror",) if how.strict else ()), "-copyts",
        "-protocol_whitelist", "file", "-format_whitelist", CONTAINERS, "-max_pixels", str(MAX_PIXELS),
        "-max_alloc", str(LARGEST_ALLOCATION_BYTES), "-threads", str(DECODER_THREADS),
        "-apply_cropping", "codec",  # a container's cropping is not in MediaInfo's size
        "-i", f"file:{info.path}", "-map", "0:V:0", "-an", "-sn", "-dn", "-fps_mode", "passthrough",
        "-enc_time_base", "demux", "-stats_enc_pre", "pipe:2", "-stats_enc_pre_fmt", "@T {pts} {tb}",
        "-vf", to_rgb_filter(info, how), "-f", "rawvideo", "-pix_fmt", pixel_format(how), "pipe:1",
    ]  # fmt: skip


def pixel_format(how: Reading) -> str:
    return "rgb48le" if how.deep else "rgb24"


def to_rgb_filter(info: MediaInfo, how: Reading = Reading()) -> str:
    """Stored picture -> full-range RGB of exactly MediaInfo's size, also when the size changes in mid-stream.

    Frames before `how.first` are dropped once nothing looks back at them, before they cost a conversion.
    """
    size = f"scale=w={info.width}:h={info.height}:flags={SCALE_FLAGS}"
    matrix, color_range = _matrix_and_range(info)
    before = ["bwdif=mode=send_frame:deint=all"] if how.deinterlace and info.interlaced else []
    if how.first:
        before.append(f"trim=start_frame={how.first}")
    if info.hdr and how.tone_map:
        return ",".join([*before, _tone_map(info, matrix, color_range), size, f"format={pixel_format(how)}"])
    interlaced = ":interl=1" if info.interlaced and not how.deinterlace else ""
    before.append(_known_tags(matrix, color_range))
    if not interlaced and _fits_zscale(info):
        return ",".join([*before, "setfield=prog", f"format={info.pix_fmt}",
                         _to_rgb_by_zscale(info, matrix, color_range, how)])  # fmt: skip
    if "42" in info.pix_fmt and info.codec not in CENTRED_CHROMA and not info.width % 2:
        size += ":in_h_chr_pos=0"  # what is odd, swscale stretches: centred comes closest (measured)
    if how.deep or info.bit_depth > 8:
        return ",".join([*before, f"{size}{interlaced}", _in_full_depth(info, color_range),
                         _to_rgb_by_zscale(info, matrix, color_range, how)])  # fmt: skip
    convert = f"{size}:in_color_matrix={matrix}:in_range={color_range}:out_range=pc{interlaced}"
    return ",".join([*before, convert, f"format={pixel_format(how)}"])


def frame_matrix(info: MediaInfo) -> str:
    """By which the file is read, whether it says so or not; as ffmpeg's setparams spells it."""
    matrix, _ = _matrix_and_range(info)
    return FRAME_MATRICES.get(matrix, matrix)


def _known_tags(matrix: str, color_range: str) -> str:
    """Samples are converted between matrices alone, and the filters refuse some tags that they need not look at."""
    named = FRAME_MATRICES.get(matrix, matrix)
    return f"setparams=color_primaries=bt709:color_trc=bt709:colorspace={named}:range={color_range}"


def _in_full_depth(info: MediaInfo, color_range: str) -> str:
    """For zscale, which rounds exactly. swscale widens by a shift, which is exact for limited range alone: full range
    keeps its depth. Alpha goes before zscale, which would multiply the colours by it; by way of packed samples, for
    from planes of RGB to planes of RGB swscale spoils some lines (measured on 10 to 16 bits).
    """
    rgb = info.pix_fmt.startswith(RGB_FORMATS)
    depth = 16 if color_range == "tv" else min(max(info.bit_depth, 8), 16)
    packed = f"format={'rgb24' if depth == 8 else 'rgb48le'}," if rgb and info.has_alpha else ""
    return f"{packed}format={'gbrp' if rgb else 'yuv444p'}{'' if depth == 8 else f'{depth}le'}"


def _to_rgb_by_zscale(info: MediaInfo, matrix: str, color_range: str, how: Reading) -> str:
    """Chroma lies where the frame says, and left where it says nothing."""
    return (f"zscale=w={info.width}:h={info.height}:matrixin={ZSCALE_MATRICES[matrix]}"
            f":rangein={ZSCALE_RANGES[color_range]}:matrix=gbr:range=full:filter=bicubic:dither=none"
            f",format={'gbrp16le' if how.deep else 'gbrp'},format={pixel_format(how)}")  # fmt: skip


def _fits_zscale(info: MediaInfo) -> bool:
    found = ZSCALE_FORMATS.fullmatch(info.pix_fmt)
    if found is None:
        return False
    return (found[1] == "44" or not info.width % 2) and (found[1] != "20" or not info.height % 2)


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
    return (
        f"setparams=color_primaries=bt2020:color_trc={info.transfer}"
        f":colorspace={FRAME_MATRICES.get(matrix, matrix)}:range={color_range}"
        ",zscale=transfer=linear:npl=203:filter=bicubic,format=gbrpf32le,zscale=primaries=bt709"
        ",tonemap=tonemap=mobius:desat=0,zscale=transfer=bt709:range=full,format=gbrp"
    )
