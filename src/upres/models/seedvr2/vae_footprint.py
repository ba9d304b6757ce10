"""What the autoencoder holds while a slice passes it, counted in values along its layers. Numbers only: no torch.

It follows vae.py line by line: what a caller still refers to is still there. On an H100, decoding 1088x1920 in bfloat16
took 9,190 values a pixel where this counted 9,184.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from upres.models.seedvr2.config import TIME_SCALE, VaeConfig

LEAD = 2  # frames that a convolution over three of them puts before a slice, and remembers of it


@dataclass(frozen=True, slots=True)
class Passing:
    """Values: of what is computed while a slice passes, at most; of what convolutions remember between slices; and of
    both, while the last slice of a clip uses that up."""

    working: int
    carried: int
    closing: int

    @property
    def values(self) -> int:
        return self.working + self.carried


def encoding(config: VaeConfig, pixels: int, *, single: bool) -> Passing:
    """Of a slice of four frames, or of the `single` one of an image. pixels: of one frame, or of one tile of it."""
    walk = _Walk(single)
    frames = 1 if single else TIME_SCALE
    widths = [config.channels[0], *config.channels]
    walk.conv(0, 3, widths[0], frames, pixels)
    for level, (entry, width) in enumerate(pairwise(widths)):
        block = frames * entry * pixels  # held by the encoder while its down block runs
        for index in range(config.resnets):
            walk.resnet(block if index else 0, entry if index == 0 else width, width, frames, pixels)
        if level < 3:
            frames, pixels = walk.downsample(block, width, frames, pixels, halves_time=level > 0)
    walk.middle(config.channels[3], frames, pixels)
    walk.conv(frames * widths[4] * pixels, widths[4], 2 * config.latent_channels, frames, pixels)
    return walk.total()


def decoding(config: VaeConfig, pixels: int, *, single: bool, copies: bool) -> Passing:
    """Of a slice of one latent frame. See `encoding`.

    `copies`: where channels come first (on a CPU) the upsampled frames are copied once more, into that order.
    """
    walk = _Walk(single)
    frames, pixels = 1, pixels // 64
    widths = [config.channels[3], *reversed(config.channels)]
    walk.conv(0, config.latent_channels, widths[0], frames, pixels)
    walk.middle(widths[0], frames, pixels)
    for level, (entry, width) in enumerate(pairwise(widths)):
        block = frames * entry * pixels  # held by the decoder while its up block runs
        for index in range(config.resnets + 1):
            walk.resnet(block if index else 0, entry if index == 0 else width, width, frames, pixels)
        if level < 3:
            doubles = level < 2 and not single
            frames, pixels = walk.upsample(block, width, frames, pixels, doubles_time=doubles, copies=copies)
    walk.conv(frames * widths[4] * pixels, widths[4], 3, frames, pixels)
    return walk.total()


class _Walk:
    """Goes from layer to layer with the frames and pixels they see; counts the most there is at once."""

    def __init__(self, single: bool) -> None:
        self._single = single
        self._most = self._carried = self._most_left = 0

    def total(self) -> Passing:
        return Passing(self._most, self._carried, self._most_left + self._carried)

    def conv(self, held: int, entry: int, width: int, frames: int, pixels: int, *, given: bool = True) -> None:
        """Its input (unless that is among what is held), the input with the frames before it, and its output."""
        self.remember(LEAD * entry * pixels)
        self.most(held + (given * frames + LEAD + frames) * entry * pixels + frames * width * pixels)

    def resnet(self, held: int, entry: int, width: int, frames: int, pixels: int) -> None:
        held += frames * entry * pixels
        self.conv(held, entry, width, frames, pixels)
        self.conv(held + frames * width * pixels, width, width, frames, pixels)

    def middle(self, width: int, frames: int, pixels: int) -> None:
        for _ in range(2):
            self.resnet(0, width, width, frames, pixels)
        self.most(7 * frames * width * pixels)  # attention: its input, tokens, queries, keys, values, answers, output

    def downsample(self, held: int, width: int, frames: int, pixels: int, *, halves_time: bool) -> tuple[int, int]:
        """Padded by a row and a column, which are not counted."""
        size, coarse, few = width * pixels, pixels // 4, frames
        led = 0
        if halves_time and not self._single:
            few = frames // 2
        if halves_time:
            led = (LEAD + frames) * size
            self.remember(size)  # a stride of two leaves one frame to remember
        self.most(held + 2 * frames * size + led + few * width * coarse)
        return few, coarse

    def upsample(self, held: int, width: int, frames: int, pixels: int, *, doubles_time: bool,
                 copies: bool) -> tuple[int, int]:  # fmt: skip
        fine, more = 4 * pixels, frames * (2 if doubles_time else 1)
        held += frames * width * pixels
        spread = more * width * fine  # what the 1 x 1 convolution made, and again as pixels
        self.most(held + 2 * spread)
        self.conv(held + spread, width, width, more, fine, given=copies)
        return more, fine

    def most(self, values: int) -> None:
        self._most = max(self._most, values)
        self._most_left = max(self._most_left, values - self._carried)

    def remember(self, values: int) -> None:
        if not self._single:
            self._carried += values
