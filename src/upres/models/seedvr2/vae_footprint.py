"""What the autoencoder holds while a slice passes it, counted in values along its layers. Numbers only: no torch.

It follows vae.py line by line: what a caller still refers to is still there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

from upres.models.seedvr2.config import TIME_SCALE, VaeConfig

RGB = 3
LEAD = 2  # frames that a convolution over three of them puts before a slice, and remembers of it


@dataclass(frozen=True, slots=True)
class Passing:
    """Values: of what is computed while a slice passes, at most; of what convolutions remember between slices; and of
    both, while the second and last slice of a clip uses that up."""

    working: int
    carried: int
    closing: int

    @property
    def values(self) -> int:
        return self.working + self.carried


@lru_cache(4096)  # a dry run asks for the same few slices and tiles thousands of times
def encoding(config: VaeConfig, pixels: int, slice_frames: int, *, copies: bool) -> Passing:
    """Of a slice of so many frames, or of four in parts of fewer; 0: of the only one of an image. pixels: of one frame,
    or of one tile of it.

    `copies`: a norm's result is copied to where it is convolved, as on a CPU.
    """
    walk = _Walk(slice_frames, copies)
    frames = walk.frames
    widths = [config.channels[0], *config.channels]
    for level, (entry, width) in enumerate(pairwise(widths)):
        parted = 0 < slice_frames < TIME_SCALE and level < 2
        part = min(frames, max(1 + level, slice_frames)) if parted else frames
        waiting = (frames - part) * entry * pixels if level else frames * RGB * pixels
        halves = level > 0 and slice_frames > 0
        made = (frames - part) * width * pixels // 4 // (2 if halves else 1)
        walk.held = waiting + made
        if level == 0:
            walk.conv(0, RGB, width, part, pixels)
        block = part * entry * pixels  # held by the encoder while its down block runs
        for index in range(config.resnets):
            walk.resnet(block if index else 0, entry if index == 0 else width, width, part, pixels)
        if level < 3:
            walk.downsample(block, width, part, pixels, halves_time=level > 0)
            frames, pixels = frames // 2 if halves else frames, pixels // 4
        walk.level_passed()
    walk.held = 0
    walk.middle(config.channels[3], frames, pixels)
    walk.conv(frames * widths[4] * pixels, widths[4], 2 * config.latent_channels, frames, pixels)
    return walk.total()


@lru_cache(4096)
def decoding(config: VaeConfig, pixels: int, slice_frames: int, *, copies: bool) -> Passing:
    """Of a slice of as many latent frames as hold so many frames, at least one. See `encoding`.

    The enlargements are merged, as in a model that was loaded.
    """
    walk = _decoded(config, pixels, slice_frames, _Walk(slice_frames, copies))
    if not 0 < slice_frames < TIME_SCALE:
        return walk.total()
    last = _decoded(config, pixels, TIME_SCALE, _Walk(TIME_SCALE, copies, rolled=slice_frames))
    return replace(walk.total(), closing=last.total().closing)


def _decoded(config: VaeConfig, pixels: int, part_frames: int, walk: _Walk) -> _Walk:
    frames, pixels = max(1, walk.frames // TIME_SCALE), pixels // 64
    widths = [config.channels[3], *reversed(config.channels)]
    walk.conv(frames * config.latent_channels * pixels, config.latent_channels, widths[0], frames, pixels)
    walk.middle(widths[0], frames, pixels)
    for level, (entry, width) in enumerate(pairwise(widths)):
        part = min(frames, max(1, part_frames >> max(0, 2 - level)))
        walk.held += (frames - part) * entry * pixels  # until all finer levels are through
        frames = part
        for index in range(config.resnets + 1):
            walk.resnet(0, entry if index == 0 else width, width, frames, pixels)
        if level < 3:
            frames, pixels = walk.upsample(0, width, frames, pixels, doubles_time=level < 2)
    walk.conv(frames * widths[4] * pixels, widths[4], RGB, frames, pixels)
    return walk


class _Walk:
    """Goes from layer to layer with the frames and pixels they see; counts the most there is at once."""

    def __init__(self, slice_frames: int, copies: bool, rolled: int = 0) -> None:
        """rolled: frames that a convolution has room for, where these are fewer than a slice's; 0: for all of them."""
        self._rolled = rolled
        self._single, self._copies = slice_frames == 0, copies
        self._parted = 0 < slice_frames < TIME_SCALE
        self.frames = 1 if self._single else max(TIME_SCALE, slice_frames)  # in a slice
        self.held = 0  # beside what the layers hold
        self._most = self._most_here = self._carried = self._after_first = self._most_left = 0
        self._levels: list[tuple[int, int]] = []  # at most, with what the level remembers; remembered of the first
        self._carried_by: list[int] = []

    def total(self) -> Passing:
        closing = self._most_left
        if self._parted:  # a level's own parts remember as usual, finer levels are through, coarser ones saw one frame
            self.level_passed()
            closing = max(values - first for values, first in self._levels)
        return Passing(self._most, self._carried, closing + self._after_first)

    def level_passed(self) -> None:
        carried = self._carried - sum(self._carried_by)
        self._carried_by.append(carried)
        self._levels.append((self._most_here + carried, self._after_first))
        self._most_here = 0

    def conv(self, held: int, entry: int, width: int, frames: int, pixels: int) -> None:
        """Among what is held is what it is given. Besides: what it convolves, with the frames before it, and perhaps a
        copy from which that is filled; then its output."""
        some = min(frames, self._rolled) if self._rolled else frames
        led = 0 if self._single else LEAD
        room = held + (led + some) * entry * pixels + (frames * width * pixels if some < frames else 0)
        self.most(room + (some * entry * pixels if self._copies else 0))  # the frames before it are there twice
        self.remember(LEAD * entry * pixels, first=entry * pixels)
        self.most(room + some * width * pixels)

    def resnet(self, held: int, entry: int, width: int, frames: int, pixels: int) -> None:
        held += frames * entry * pixels
        self.conv(held, entry, width, frames, pixels)
        self.conv(held + frames * width * pixels, width, width, frames, pixels)

    def middle(self, width: int, frames: int, pixels: int) -> None:
        for _ in range(2):
            self.resnet(0, width, width, frames, pixels)
        self.most(7 * frames * width * pixels)  # attention: its input, tokens, queries, keys, values, answers, output

    def downsample(self, held: int, width: int, frames: int, pixels: int, *, halves_time: bool) -> None:
        """Padded by a row and a column, which are not counted."""
        size, coarse, few, led = width * pixels, pixels // 4, frames, 0
        if halves_time and not self._single:
            few, led = frames // 2, 1
            self.remember(size, first=size)  # a stride of two leaves one frame to remember
        self.most(held + (2 * frames + led) * size + few * width * coarse)

    def upsample(self, held: int, width: int, frames: int, pixels: int, *, doubles_time: bool) -> tuple[int, int]:
        """Given, unless it is an image with the frames before it, one phase of the output, and all of it."""
        size, lead = width * pixels, 1 if doubles_time else LEAD
        more = frames * (2 if doubles_time and not self._single else 1)
        self.remember(lead * size, first=size)
        led = 0 if self._single else lead + frames
        self.most(held + (frames + led + frames + 4 * more) * size)
        return more, 4 * pixels

    def most(self, values: int) -> None:
        values += self.held
        self._most, self._most_here = max(self._most, values), max(self._most_here, values)
        self._most_left = max(self._most_left, values - self._after_first)

    def remember(self, values: int, first: int) -> None:
        """first: after a clip's first slice, whose single frame is kept once."""
        if not self._single:
            self._carried += values
            self._after_first += first
