"""What an agent is shown: before and after, and a contact sheet, as JPEGs small enough for every client.

Knows nothing of files. Both pictures of a pair have the same layout: all of the frame, and beside or under it a part of
it pixel for pixel, where the difference can be seen. What is transparent shows the checkerboard of image editors, its
squares of one size before and after.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFilter, ImageStat

from upres.pictures.values import Focus, across_and_down

# Claude Desktop refuses results over 1 MB, base64 included; models scale what is larger than about 768 pixels
MAX_SIDE, MAX_BYTES = 768, 100_000
WITHOUT_DETAIL = 1152  # longest side of a frame that is still seen well when shown whole
QUALITIES = (88, 80, 70, 60, 50, 40)
COLUMNS = 3
SQUARES, LIGHT, DARK = 64, 0xCC, 0x99  # of the checkerboard: how many along the longer side, and their greys
GAP, INK, PAPER = 4, (255, 255, 255), (16, 16, 16)
Box = tuple[int, int, int, int]  # left, top, right, bottom


@dataclass(frozen=True, slots=True)
class Pair:
    """Two JPEGs of one size; `detail` is the part of the full-size frame that is shown pixel for pixel."""

    before: bytes
    after: bytes
    detail: Box | None


def pair(before: Image.Image, after: Image.Image, focus: Focus) -> Pair:
    """`before` is enlarged to the size of `after` as a player would: bicubic."""
    before, after = _opaque(before.resize(after.size, Image.Resampling.BICUBIC)), _opaque(after)
    if max(after.size) <= WITHOUT_DETAIL:
        return _paired(before, after, None)
    wide = after.width >= after.height
    whole = (MAX_SIDE, MAX_SIDE * 9 // 16) if wide else (MAX_SIDE // 2, MAX_SIDE)
    whole = _fitted(after.size, whole)
    room = (MAX_SIDE, MAX_SIDE - whole[1] - GAP) if wide else (MAX_SIDE - whole[0] - GAP, MAX_SIDE)
    box = _detail(after, (min(room[0], after.width), min(room[1], after.height)), focus)
    return _paired(_card(before, whole, box, wide), _card(after, whole, box, wide), box)


def contact_sheet(frames: Sequence[tuple[Image.Image, str]]) -> bytes:
    """Thumbnails with a caption each, three in a row; a single picture fills the sheet."""
    columns = min(COLUMNS, len(frames))
    width = (MAX_SIDE - GAP * (columns - 1)) // columns
    small = [(_opaque(image.resize(_fitted(image.size, (width, MAX_SIDE)), Image.Resampling.LANCZOS)), caption)
             for image, caption in frames]  # fmt: skip
    width, height = max(image.width for image, _ in small), max(image.height for image, _ in small)
    rows = -(-len(small) // columns)
    sheet = Image.new("RGB", (columns * (width + GAP) - GAP, rows * (height + GAP) - GAP), PAPER)
    for number, (image, caption) in enumerate(small):
        left, top = number % columns * (width + GAP), number // columns * (height + GAP)
        sheet.paste(image, (left, top))
        if caption:
            ImageDraw.Draw(sheet).text((left + 5, top + 4), caption, fill=INK, stroke_width=1, stroke_fill=PAPER)
    return jpeg(sheet)


def _paired(before: Image.Image, after: Image.Image, detail: Box | None) -> Pair:
    first, second = _jpegs(before, after)
    return Pair(first, second, detail)


def jpeg(image: Image.Image) -> bytes:
    """At most MAX_SIDE and MAX_BYTES, at the best quality that allows it."""
    return _jpegs(image)[0]


def _jpegs(*images: Image.Image) -> list[bytes]:
    """Of images of one size; they stay of one size."""
    shown = _fitted(images[0].size, (MAX_SIDE, MAX_SIDE))
    while True:
        files = [_within(image.convert("RGB").resize(shown, Image.Resampling.LANCZOS)) for image in images]
        if all(files):
            return [file for file in files if file is not None]
        shown = max(1, shown[0] * 3 // 4), max(1, shown[1] * 3 // 4)


def _within(image: Image.Image) -> bytes | None:
    """None where MAX_BYTES are too few for this size."""
    for quality in QUALITIES:
        with io.BytesIO() as file:
            image.save(file, "JPEG", quality=quality)
            if file.tell() <= MAX_BYTES:
                return file.getvalue()
    return None


def _opaque(image: Image.Image) -> Image.Image:
    """On a checkerboard where it is transparent."""
    if image.mode != "RGBA":
        return image
    side = max(1, round(max(image.size) / SQUARES))
    across, down = -(-image.width // side), -(-image.height // side)
    greys = bytes(DARK if (x + y) % 2 else LIGHT for y in range(down) for x in range(across))
    squares = Image.frombytes("L", (across, down), greys)
    board = squares.resize((across * side, down * side), Image.Resampling.NEAREST).convert("RGB")
    board = board.crop((0, 0, *image.size))
    board.paste(image, mask=image.getchannel("A"))
    return board


def _card(image: Image.Image, whole: tuple[int, int], box: Box, wide: bool) -> Image.Image:
    size = (box[2] - box[0], box[3] - box[1])
    both = ((max(whole[0], size[0]), whole[1] + GAP + size[1]) if wide
            else (whole[0] + GAP + size[0], max(whole[1], size[1])))  # fmt: skip
    card = Image.new("RGB", both, PAPER)
    card.paste(image.resize(whole, Image.Resampling.LANCZOS), (0, 0))
    card.paste(image.crop(box), (0, whole[1] + GAP) if wide else (whole[0] + GAP, 0))
    return card


def _fitted(size: tuple[int, int], room: tuple[int, int]) -> tuple[int, int]:
    scale = min(room[0] / size[0], room[1] / size[1], 1.0)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _detail(image: Image.Image, size: tuple[int, int], focus: Focus) -> Box:
    spare = (image.width - size[0], image.height - size[1])
    if focus == "auto":
        left, top = _busiest(image, size, spare)
    else:
        across, down = across_and_down(focus)
        left, top = round(spare[0] * across), round(spare[1] * down)
    return left, top, left + size[0], top + size[1]


def _busiest(image: Image.Image, size: tuple[int, int], spare: tuple[int, int]) -> tuple[int, int]:
    """Of 25 places the one with the most edges: a face or writing rather than sky."""
    scale = 384 / max(image.size)
    small = image.convert("L").resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    edges = small.filter(ImageFilter.FIND_EDGES)
    places = [(spare[0] * x // 4, spare[1] * y // 4) for y in range(5) for x in range(5)]

    def busy(place: tuple[int, int]) -> float:
        left, top, right, bottom = (round(v * scale) for v in (*place, place[0] + size[0], place[1] + size[1]))
        part = edges.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
        return float(ImageStat.Stat(part).mean[0])

    return max(places, key=busy)
