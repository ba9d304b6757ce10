"""From facts about a clip to sizes and windows. Integers only: no pixels, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from upres.errors import InvalidParameter
from upres.models.limits import Limits
from upres.restore.framing import check_sizes, framed_size, picture_size, wants_exact
from upres.tasks import MediaKind, TaskSpec

MAX_SIDE = 16384  # the longest side H.264 and our image writers take
CUT_MULTIPLE = 128  # sides of a result that is cut: FlashVSR's attention works on windows of 128 pixels
BLOCK_PIXELS = 16_000_000  # output pixels that are handled at once at most: 190 MB as float32 RGB


@dataclass(frozen=True, slots=True)
class Size:
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"

    @property
    def pixels(self) -> int:
        return self.height * self.width

    def padded(self, multiple: int) -> Size:
        return Size(-(-self.height // multiple) * multiple, -(-self.width // multiple) * multiple)

    def cut(self, multiple: int) -> Size:
        return Size(self.height // multiple * multiple, self.width // multiple * multiple)

    def even(self) -> Size:
        return self.cut(2)


@dataclass(frozen=True, slots=True)
class Plan:
    """`model_input` is what the model gets: the source, or what is kept of the enlarged source, padded."""

    source: Size  # the clip's frames, after `preprocess_width`
    steps: tuple[Size, ...]  # what the source is resized to, one after the other
    kept: Size  # of the enlarged source: its middle
    target: Size
    model_input: Size
    model_output: Size  # what it yields: the target, padded in proportion
    origin: tuple[int, int]  # the target's first row and column in it
    window: int  # frames that go through the model together, at most
    block: int  # frames that are read and resized together
    frames: int
    frame: Size  # of the file: the target, or what `fit` puts around it or cuts from it

    @property
    def enlarged(self) -> Size:
        """The source resized: a line or column more than the target where a video's would be odd."""
        return self.steps[-1]

    @property
    def notes(self) -> tuple[str, ...]:
        """What the result lacks by order."""
        if self.kept == self.enlarged:
            return ()
        return (f"the picture of {self.enlarged} is cut to {self.kept}, multiples of {CUT_MULTIPLE}: "
                "preserve_aspect_ratio=true keeps all of it",)  # fmt: skip


def enlargement(source: Size, resolution: int, longest: int = 0) -> tuple[Size, ...]:
    """One or two sizes to resize to, one after the other: the short side becomes `resolution`, fractions cut; then,
    unless `longest` is 0, all shrinks until no side exceeds it. The rule of numz/ComfyUI-SeedVR2_VideoUpscaler 4490bd1.
    """
    short = min(source.height, source.width)
    first = Size(source.height * resolution // short, source.width * resolution // short)
    reached = max(first.height, first.width)
    if not 0 < longest < reached:
        return (first,)
    scale = longest / reached
    return first, Size(round(first.height * scale), round(first.width * scale))


def prepared(source: Size, spec: TaskSpec) -> Size:
    """`preprocess_width` wide, as high as the aspect asks, in whole pairs of lines; rounded as ffmpeg's scale=W:-2.

    Raises InvalidParameter.
    """
    width = spec.preprocess_width
    if width is None:
        return source
    size = Size(max(2, (width * source.height + source.width) // (2 * source.width) * 2), width)
    if size.height > MAX_SIDE:
        raise InvalidParameter(f"preprocess_width={width} makes {source} into {size}",
                               remedy=f"no side may exceed {MAX_SIDE}; use a smaller one")  # fmt: skip
    return size


def target_size(
    source: Size, spec: TaskSpec, kind: MediaKind, *, even: bool | None = None, sample_aspect: Fraction = Fraction(1)
) -> Size:
    """The short side becomes `resolution`, the long one follows, or both are `scale` times as long; a video's sides
    are even, for 4:2:0, unless its codec needs no such thing. 854x480 at 1080 is 1920x1080. Without
    `preserve_aspect_ratio` both are cut to multiples of 128. Raises InvalidParameter.
    """
    whole = resizing(source, spec, sample_aspect)[-1]
    size = kept(whole, spec)
    pairs = kind == "video" if even is None else even
    target = size.even() if pairs else size
    if not size.pixels:
        raise InvalidParameter(f"{source} becomes {whole}, which is cut to {size}: nothing",
                               remedy="use preserve_aspect_ratio=true, or a larger scale or preprocess_width")
    if not target.pixels:
        raise InvalidParameter(f"{source} becomes {size}: a video has 2 lines and columns at least",
                               remedy="use a larger scale or resolution")  # fmt: skip
    if max(target.height, target.width) > MAX_SIDE:
        short, long = min(source.height, source.width), max(source.height, source.width)
        if spec.scale is None:
            asked, most = f"resolution={spec.resolution}", str(MAX_SIDE * short // long)
        else:
            asked, most = f"scale={spec.scale:g}", f"{MAX_SIDE * 100 // long / 100:g}"
        raise InvalidParameter(f"{asked} makes {source} into {target}",
                               remedy=f"no side may exceed {MAX_SIDE}; use at most {most}")  # fmt: skip
    return target


def resizing(source: Size, spec: TaskSpec, sample_aspect: Fraction = Fraction(1)) -> tuple[Size, ...]:
    """The sizes to resize to, one after the other."""
    if wants_exact(spec):
        return (Size(*picture_size(source.height, source.width, spec, sample_aspect)),)
    if spec.scale is not None:
        scale = spec.scale
        if spec.max_side is not None:
            scale = min(scale, spec.max_side / max(source.height, source.width))
        return (Size(round(source.height * scale), round(source.width * scale)),)
    return enlargement(source, spec.resolution, 0 if spec.max_side is None else spec.max_side)


def kept(enlarged: Size, spec: TaskSpec) -> Size:
    return enlarged if spec.preserve_aspect_ratio else enlarged.cut(CUT_MULTIPLE)


def plan_clip(
    clip: Size, frames: int, kind: MediaKind, spec: TaskSpec, limits: Limits,
    *, even: bool | None = None, sample_aspect: Fraction = Fraction(1),
) -> Plan:  # fmt: skip
    """Raises InvalidParameter."""
    check_sizes(spec)
    source = prepared(clip, spec)
    target = target_size(source, spec, kind, even=even, sample_aspect=sample_aspect)
    frame = Size(*framed_size(target.height, target.width, spec))
    if (kind == "video" if even is None else even) and frame != frame.even():
        raise InvalidParameter(f"a size of {frame} cannot be written: the codec needs even sides",
                               remedy=f"use {frame.even()}, or ffv1 or a sequence of pictures")  # fmt: skip
    steps = resizing(source, spec, sample_aspect)
    if limits.takes == "source" and spec.preserve_aspect_ratio:
        steps = (target,)  # it reaches that by itself: nothing is cut
    whole, part = steps[-1], kept(steps[-1], spec)
    if limits.takes == "target":
        model_input = output = part.padded(limits.multiple_of)
        origin = _margins(model_input, part) if limits.place == "centre" else (0, 0)
    else:
        model_input = source.padded(limits.multiple_of)
        output = Size(_up_ratio(model_input.height, whole.height, source.height),
                      _up_ratio(model_input.width, whole.width, source.width))  # fmt: skip
        origin = _margins(whole, part)
    window = _window(spec.batch_size, limits)
    block = min(window, max(1, BLOCK_PIXELS // target.pixels))
    return Plan(source, steps, part, target, model_input, output, origin, window, block, frames, frame)


def _margins(outer: Size, inner: Size) -> tuple[int, int]:
    return (outer.height - inner.height) // 2, (outer.width - inner.width) // 2


def _window(wanted: int, limits: Limits) -> int:
    """The frames asked for, on the model's frame grid."""
    steps = max(0, (wanted - limits.frame_offset) // limits.frame_step)
    return max(1, limits.frame_offset + steps * limits.frame_step)


def _up_ratio(padded: int, target: int, entry: int) -> int:
    return -(-padded * target // entry)
