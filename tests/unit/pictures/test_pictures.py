"""Stills, excerpts, pairs and contact sheets of real files."""

import io
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.media.clips import chroma_clip, deep_clip, every_value, tags
from tests.support import ffmpeg, make_video
from upres.errors import FileMissing, InvalidParameter
from upres.media.decode import FrameReader, Reading
from upres.media.images import read_image, write_image
from upres.media.output import Output
from upres.media.probe import MediaInfo, probe
from upres.pictures.excerpt import cut, of_part
from upres.pictures.layout import MAX_BYTES, MAX_SIDE, contact_sheet, jpeg, pair
from upres.pictures.stills import still
from upres.pictures.values import Excerpt
from upres.pictures.verbs import Footage, compare, cut_for_preview, first_frame, preview_frames, sheet
from upres.restore.plan import Size
from upres.tasks import TaskSpec

NOISE = Image.fromarray(np.random.default_rng(1).integers(0, 256, (2000, 3000, 3), dtype=np.uint8))


def frames_of(info: MediaInfo) -> np.ndarray:
    with FrameReader(info) as reader:
        return np.concatenate(list(reader))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> MediaInfo:
    """48 frames in four groups of pictures, at 24000/1001."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=96x64:r=24000/1001,hue=h=67*n", "-frames:v", "48", "-g", "12",
           "-pix_fmt", "yuv420p", path)  # fmt: skip
    return probe(path)


@pytest.mark.parametrize("number", [0, 1, 11, 12, 30, 47])
def test_a_still_is_the_frame_that_is_shown_then(clip: MediaInfo, number: int) -> None:
    shown_from = float(Fraction(number) / clip.fps)
    for moment in (shown_from, shown_from + 0.02):
        assert np.array_equal(np.asarray(still(clip, moment)), frames_of(clip)[number])


def test_a_moment_behind_the_end_is_the_last_frame(clip: MediaInfo) -> None:
    assert np.array_equal(np.asarray(still(clip, 99.0)), frames_of(clip)[-1])


def test_the_first_frame_of_hdr_is_shown_as_bright_as_it_is_meant(tmp_path: Path) -> None:
    """Diffuse white, PQ's code 573, which taken for SDR were 148."""
    white = f"format=yuv420p10le,geq=lum=573:cb=512:cr=512,{tags('bt2020nc', 'smpte2084', 'tv')}"
    ffmpeg("-f", "lavfi", "-i", "color=black:s=64x48:r=24", "-frames:v", "2", "-vf", white, "-c:v", "ffv1",
           tmp_path / "a.mkv")  # fmt: skip
    with Image.open(io.BytesIO(first_frame(tmp_path / "a.mkv"))) as shown:
        assert (shown.format, shown.size) == ("JPEG", (64, 48))
        assert 180 < np.asarray(shown).mean() < 235


@pytest.mark.parametrize("name", ["a.mp4", "a.png"])
def test_a_file_that_goes_between_two_looks_is_called_gone(name: str, tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=96x64:r=24", "-frames:v", "1", tmp_path / name)
    info = probe(tmp_path / name)
    (tmp_path / name).unlink()
    with pytest.raises(FileMissing, match=f"{name} is gone"):
        still(info, 0.0)


def test_an_inexact_still_is_the_key_frame_before(clip: MediaInfo) -> None:
    assert np.array_equal(np.asarray(still(clip, 20 / 24, exact=False)), frames_of(clip)[12])


def test_a_cut_is_bit_for_bit_the_piece(clip: MediaInfo, tmp_path: Path) -> None:
    piece = probe(cut(clip, Excerpt(start_s=14 * 1001 / 24000), 5, tmp_path))
    assert (piece.frames, piece.fps, piece.variable_frame_rate) == (5, clip.fps, False)
    assert np.array_equal(frames_of(piece), frames_of(clip)[14:19])


@pytest.mark.parametrize(("place", "left", "top"), [("top left", 0, 0), ("bottom right", 48, 32), ("center", 24, 16)])
def test_a_cut_of_a_part_is_that_part(clip: MediaInfo, tmp_path: Path, place: str, left: int, top: int) -> None:
    piece = probe(cut(clip, Excerpt.model_validate({"start_s": 0, "place": place}), 2, tmp_path))
    assert (piece.width, piece.height) == (48, 32)
    there = frames_of(clip)[:2, top : top + 32, left : left + 48].astype(int)
    assert np.abs(frames_of(piece).astype(int) - there)[:, 3:-3, 3:-3].max() <= 2  # chroma is interpolated at the edge


def test_a_cut_of_an_image_keeps_its_alpha(tmp_path: Path) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (64, 64, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    piece = probe(cut(probe(tmp_path / "a.png"), Excerpt(place="right"), 1, tmp_path))
    assert np.array_equal(read_image(piece), pixels[16:48, 32:])


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_a_cut_of_16_bits_keeps_them(suffix: str, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    words = np.random.default_rng(3).integers(0, 1 << 16, (64, 64, 4), dtype=np.uint16)
    write_image(folder / f"1.{suffix}", words, Output("", suffix, 16))
    piece = probe(cut(probe(folder / f"1.{suffix}"), Excerpt(place="right"), 1, tmp_path))
    assert np.array_equal(read_image(piece, deep=True), words[16:48, 32:])
    pieces = probe(cut(probe(folder), Excerpt(place="left"), 1, tmp_path))
    assert pieces.bit_depth == 16
    assert np.array_equal(read_image(probe(pieces.files[0]), deep=True), words[16:48, :32, :3])


def test_a_cut_and_a_still_of_a_16_bit_clip_are_rounded_from_all_its_bits(tmp_path: Path) -> None:
    words = every_value()
    info = probe(deep_clip(tmp_path / "a.mov", words, "png", "rgb48be"))
    piece = probe(cut(info, Excerpt(), 1, tmp_path))
    with FrameReader(piece, 1, Reading(deep=True)) as reader:
        assert np.array_equal(next(iter(reader))[0], words[..., :3])
    for shown in (info, piece):
        assert np.array_equal(np.asarray(still(shown, 0.0)), np.rint(words[..., :3] / 257))


@pytest.mark.parametrize("location", ["topleft", "center", "left"])
def test_a_cut_remembers_where_chroma_lies(location: str, tmp_path: Path) -> None:
    info = probe(chroma_clip(tmp_path / "a.mp4", location))
    piece = probe(cut(info, Excerpt(start_s=0), 2, tmp_path))
    assert np.array_equal(frames_of(piece), frames_of(info))


def test_a_cut_of_full_range_keeps_every_bit(tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=96x64:r=24,scale=out_range=pc", "-frames:v", "3", "-color_range", "pc",
           "-pix_fmt", "yuvj420p", tmp_path / "a.mp4")  # fmt: skip
    info = probe(tmp_path / "a.mp4")
    piece = probe(cut(info, Excerpt(start_s=0), 3, tmp_path))
    assert info.color_range == piece.color_range == "pc"
    assert np.array_equal(frames_of(piece), frames_of(info))


def test_a_part_of_untagged_video_is_read_as_the_whole_is(tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "color=red:s=96x720:r=24", "-frames:v", "1", "-pix_fmt", "yuv420p", "-c:v", "ffv1",
           tmp_path / "a.mkv")  # fmt: skip
    info = probe(tmp_path / "a.mkv")
    part = probe(cut(info, Excerpt(place="center"), 1, tmp_path))
    assert info.matrix is None and part.height == 360
    assert np.array_equal(frames_of(part)[0, 100, 24], frames_of(info)[0, 360, 48])


def test_a_piece_lies_in_the_middle_unless_told_and_inside_the_clip_always(clip: MediaInfo) -> None:
    assert Excerpt().begins_s(clip, 8) == pytest.approx(20 * 1001 / 24000)
    assert Excerpt(start_s=1.99).begins_s(clip, 24) == pytest.approx(24 * 1001 / 24000)
    with pytest.raises(InvalidParameter, match=r"start=3 lies behind the end of clip\.mp4; it is 2\.002 s long"):
        Excerpt(start_s=3).begins_s(clip, 1)


def test_a_part_of_a_tiny_picture_is_refused(tmp_path: Path) -> None:
    info = probe(make_video(tmp_path / "tiny.mp4", frames=1, size="20x20", sound=False))
    with pytest.raises(InvalidParameter, match="only 10x10 pixels; preview all of it"):
        Excerpt(place="center").box(info)


@pytest.mark.parametrize(("seconds", "frame_s", "frames"), [
    (None, 0.1, 24), (None, 1.0, 20), (None, 100.0, 5), (0.5, 100.0, 12), (10, 0.1, 48), (0.01, 0.1, 1)])  # fmt: skip
def test_a_preview_is_a_second_unless_that_takes_long(
    clip: MediaInfo, seconds: float | None, frame_s: float, frames: int
) -> None:
    assert preview_frames(clip, Excerpt(seconds=seconds), frame_s) == frames


def test_a_part_is_enlarged_as_much_as_the_whole(clip: MediaInfo) -> None:
    spec = TaskSpec(input_path="clip.mp4", resolution=256, seed=7, output_path="/elsewhere.mp4")
    part = of_part(spec, Path("/piece.mov"), clip, Size(32, 48))
    assert (part.resolution, part.seed, part.input_path, part.output_path) == (128, 7, "/piece.mov", None)


def test_a_cut_whose_order_fails_leaves_nothing(clip: MediaInfo, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), cut_for_preview(clip, TaskSpec(input_path="x"), Excerpt(), 2, tmp_path) as order:
        assert Path(order.input_path).is_file()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_large_pair_has_one_layout_and_shows_a_part_pixel_for_pixel() -> None:
    shown = pair(NOISE.resize((300, 200)), NOISE, "bottom right")
    before, after = (Image.open(io.BytesIO(data)) for data in (shown.before, shown.after))
    assert before.size == after.size and max(after.size) <= MAX_SIDE
    assert shown.detail is not None and shown.detail[2:] == NOISE.size


def test_the_part_shown_is_where_the_edges_are() -> None:
    flat = Image.new("RGB", (3000, 2000), (90, 90, 90))
    flat.paste(NOISE.crop((0, 0, 200, 200)), (2600, 1750))
    left, top, right, bottom = pair(flat, flat, "auto").detail or (0, 0, 0, 0)
    assert left <= 2600 and right >= 2800 and top <= 1750 and bottom >= 1950


@pytest.mark.parametrize("size", [(3000, 2000), (200, 2000), (2000, 9), (1, 1)])
def test_a_jpeg_is_small_whatever_it_shows(size: tuple[int, int]) -> None:
    data = jpeg(NOISE.resize(size))
    assert len(data) <= MAX_BYTES
    assert max(Image.open(io.BytesIO(data)).size) <= MAX_SIDE


def test_what_is_transparent_shows_the_same_checkerboard_before_and_after() -> None:
    before = Image.new("RGBA", (40, 30), (255, 0, 0, 0))
    before.paste((255, 0, 0, 255), (0, 0, 20, 30))
    shown = pair(before, before.resize((400, 300)), "auto")
    for data in (shown.before, shown.after):
        picture = np.asarray(Image.open(io.BytesIO(data)), dtype=int)
        assert np.abs(picture[150, 50] - (255, 0, 0)).max() < 12
        greys = picture[20:280, 260:380].mean(axis=-1)
        assert {round(float(grey), -1) for grey in np.percentile(greys, (20, 80))} == {150, 200}
    first, second = (np.asarray(Image.open(io.BytesIO(data)), dtype=int)[:, 260:]
                     for data in (shown.before, shown.after))  # fmt: skip
    assert np.abs(first - second).mean() < 3


def test_a_sheet_of_a_clip_shows_six_moments(clip: MediaInfo) -> None:
    image = Image.open(io.BytesIO(sheet(clip.path)))
    tiles = [image.crop((x * 100, y * 68 + 20, x * 100 + 96, y * 68 + 64)) for y in range(2) for x in range(3)]
    assert image.size == (3 * 100 - 4, 2 * 68 - 4)
    assert len({tile.tobytes() for tile in tiles}) == 6


def test_a_sheet_of_one_picture_is_that_picture() -> None:
    assert Image.open(io.BytesIO(contact_sheet([(NOISE, "")]))).size == (768, 512)


def test_a_moment_outside_the_clip_is_refused(clip: MediaInfo) -> None:
    with pytest.raises(InvalidParameter, match=r"at=5 lies outside the clip; give 0 to 2\.002 seconds"):
        compare(Footage.of(clip.path), Footage.of(clip.path), 5, "auto")
