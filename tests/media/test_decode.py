"""FrameReader: every frame, in its right colour, whatever the clip."""

from __future__ import annotations

import dataclasses
import itertools
import threading

import numpy as np
import psutil
import pytest

from tests.media.clips import (
    CHROMA,
    H264,
    KINDS,
    KR_KB,
    chroma_clip,
    chroma_location,
    chroma_ramps,
    deep_clip,
    every_value,
    ffmpeg,
    solid,
    source,
    tags,
    variable_rate,
)
from upres.errors import InvalidParameter, MediaFailed
from upres.media.decode import FrameReader, Reading
from upres.media.probe import probe

X264, FFV1 = ("-c:v", "libx264", "-qp", "0"), ("-c:v", "ffv1")


def read_all(path, block=8):
    with FrameReader(probe(path), block) as reader:
        blocks = list(reader)
    assert not reader.warnings, reader.warnings
    return np.concatenate(blocks)


@pytest.mark.parametrize("kind", KINDS)
def test_every_frame_comes_out_once_in_the_promised_size(kind, clip):
    frames = read_all(clip(kind))
    width, height = KINDS[kind].size
    assert frames.shape == (KINDS[kind].frames, height, width, 3) and frames.dtype == np.uint8


def test_a_variable_rate_neither_repeats_nor_drops_frames(tmp_path):
    frames = read_all(variable_rate(tmp_path))
    assert len(frames) == 14
    assert all((a != b).any() for a, b in itertools.pairwise(frames))


@pytest.mark.parametrize("block", [1, 7, 24, 100])
def test_blocks_are_full_but_the_last(block, clip):
    with FrameReader(probe(clip("h264 mp4")), block) as reader:
        sizes = [len(frames) for frames in reader]
        assert reader.frames_read == 24
    assert sizes == [block] * (24 // block) + ([24 % block] if 24 % block else [])


def test_blocks_are_independent_contiguous_arrays(clip):
    with FrameReader(probe(clip("h264 mp4")), 4) as reader:
        blocks = list(reader)
    assert all(frames.flags.c_contiguous for frames in blocks)
    assert not any(np.shares_memory(a, b) for a, b in itertools.pairwise(blocks))


def test_rotation_is_applied_in_the_right_direction(tmp_path):
    """A stored picture that is white on the left and turned 90 degrees counter-clockwise is white at the bottom."""
    half = "color=white:s=64x96:r=24,pad=128:96:0:0:black"
    ffmpeg("-f", "lavfi", "-i", half, "-frames:v", "2", *H264, tmp_path / "left.mp4")
    ffmpeg("-display_rotation", "90", "-i", tmp_path / "left.mp4", "-c", "copy", tmp_path / "turned.mp4")
    frame = read_all(tmp_path / "turned.mp4")[0]
    assert frame.shape == (128, 96, 3)
    assert frame[80:].mean() > 250 and frame[:48].mean() < 5


@pytest.mark.parametrize("color_range", ["tv", "pc"])
@pytest.mark.parametrize("matrix", ["bt709", "bt601"])
def test_a_solid_colour_comes_back_by_its_tags(matrix, color_range, tmp_path):
    for rgb in ((200, 30, 60), (20, 180, 240), (255, 255, 255)):
        frames = read_all(solid(tmp_path / "a.mp4", rgb, matrix=matrix, color_range=color_range))
        assert np.abs(frames.astype(int) - rgb).max() <= 2, rgb


@pytest.mark.parametrize(("pix_fmt", "bits", "color_range", "codec"), [
    ("yuv420p", 8, "tv", X264), ("yuv420p", 8, "pc", X264), ("yuv420p10le", 10, "tv", X264),
    ("yuv420p10le", 10, "pc", X264), ("yuv444p12le", 12, "tv", FFV1), ("gbrp10le", 10, "pc", FFV1),
])  # fmt: skip
def test_deep_samples_reach_from_black_to_white(pix_fmt, bits, color_range, codec, tmp_path):
    """swscale's white would lie 252 of 65535 too low. Odd sizes, where the codec takes them."""
    width, height = (64, 48) if codec is X264 else (63, 47)
    black, white = (16 << bits - 8, 235 << bits - 8) if color_range == "tv" else (0, (1 << bits) - 1)
    rgb, chroma = pix_fmt[0] == "g", (width // 2 * (height // 2) if "420" in pix_fmt else width * height)
    planes = [np.concatenate([np.full(width * height, level), *(
        np.full(width * height, level) if rgb else np.full(chroma, 1 << bits - 1) for _ in range(2))])
        for level in (black, white)]  # fmt: skip
    (tmp_path / "raw").write_bytes(np.concatenate(planes).astype(np.uint8 if bits == 8 else "<u2").tobytes())
    tagged = [] if rgb else ["-vf", tags("bt709", "bt709", color_range)]
    ffmpeg("-f", "rawvideo", "-pix_fmt", pix_fmt, "-s", f"{width}x{height}", "-r", "24", "-i", tmp_path / "raw",
           *tagged, *codec, tmp_path / "a.mkv")  # fmt: skip
    info = probe(tmp_path / "a.mkv")
    assert (info.pix_fmt.removeprefix("yuvj"), info.color_range) in ((pix_fmt, color_range), ("420p", color_range))
    with FrameReader(info, how=Reading(deep=True)) as reader:
        first, last = np.concatenate(list(reader)).astype(int)
    assert first.max() <= 1 and last.min() >= 65534


@pytest.mark.parametrize(("name", "codec", "pix_fmt"), [
    ("a.mov", "png", "rgb48be"), ("a.mov", "png", "rgba64be"), ("a.mov", "tiff", "rgb48le"),
    ("a.mkv", "ffv1", "gbrp16le"), ("a.mkv", "ffv1", "gbrap16le")])  # fmt: skip
def test_16_bits_of_rgb_are_kept_or_rounded_whatever_lies_beside_them(name, codec, pix_fmt, tmp_path):
    words = every_value()
    info = probe(deep_clip(tmp_path / name, words, codec, pix_fmt))
    for deep, expected in ((True, words[..., :3]), (False, np.rint(words[..., :3] / 257))):
        with FrameReader(info, 1, Reading(deep=deep)) as reader:
            (frames,) = list(reader)
        assert np.array_equal(frames[0], expected)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize(("matrix", "transfer"), [("ycgco", "bt709"), ("bt709", "log316"), ("ictcp", "bt709")])
def test_tags_that_no_filter_knows_do_not_stop_the_reading(matrix, transfer, deep, tmp_path):
    ffmpeg("-f", "lavfi", "-i", "color=gray:s=64x48:r=24", "-frames:v", "2", "-vf",
           f"format=yuv420p,{tags(matrix, transfer, 'tv').replace('primaries=' + matrix, 'primaries=bt709')}", *X264,
           tmp_path / "a.mkv")  # fmt: skip
    with FrameReader(probe(tmp_path / "a.mkv"), how=Reading(deep=deep)) as reader:
        assert abs(np.concatenate(list(reader)) / (257 if deep else 1) - 128).max() <= 3


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize(("codec", "pix_fmt", "matrix", "off"), [
    (X264, "yuv420p", "bt709", 0), (X264, "yuv420p10le", "bt709", 0), (X264, "yuv422p", "bt709", 0),
    (FFV1, "yuva420p", "bt709", 0), (("-c:v", "mjpeg", "-q:v", "1"), "yuvj420p", "bt601", 0.5),
])  # fmt: skip
def test_chroma_lies_left_but_centred_in_jpeg(codec, pix_fmt, matrix, off, deep, tmp_path):
    """Blueness rises by a level a pixel; half a pixel is half a level of it, and one of blue."""
    width, height, scale = 96, 64, 4 if "10" in pix_fmt else 1
    rising = np.broadcast_to(80.0 + np.arange(0, width, 2), (height if "422" in pix_fmt else height // 2, width // 2))
    planes = [np.full(width * height, 110), rising.ravel(), np.full(rising.size, 128), np.full(width * height, 255)]
    data = np.concatenate(planes[: 4 if "yuva" in pix_fmt else 3]) * scale
    (tmp_path / "raw").write_bytes(data.astype("<u2" if scale > 1 else np.uint8).tobytes())
    color_range = "pc" if matrix == "bt601" else "tv"
    name = {"bt601": "smpte170m"}.get(matrix, matrix)
    ffmpeg("-f", "rawvideo", "-pix_fmt", pix_fmt, "-s", f"{width}x{height}", "-r", "24", "-i", tmp_path / "raw",
           "-vf", tags(name, name, color_range), *codec, tmp_path / "a.mkv")  # fmt: skip
    with FrameReader(probe(tmp_path / "a.mkv"), how=Reading(deep=deep)) as reader:
        blue = next(iter(reader))[0, height // 2, :, 2] / (257 if deep else 1)
    low, luma_span, chroma_span = (0, 255, 255) if color_range == "pc" else (16, 219, 224)
    cb = (80.0 + np.arange(width) - off - 128) / chroma_span
    wanted = 255 * ((110 - low) / luma_span + (2 - 2 * KR_KB[matrix][1]) * cb)
    assert abs((blue - wanted)[8:-8].mean()) < 0.2


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("name", ["h264.mkv", "h265.mp4"])
@pytest.mark.parametrize("location", CHROMA)
def test_chroma_lies_where_the_stream_says(location, name, deep, tmp_path):
    """Half a pixel is 0.75 levels of chroma, and 1.6 of blue; rounding alone is 0.46 at most."""
    path = chroma_clip(tmp_path / name, location)
    assert chroma_location(path) == location
    with FrameReader(probe(path), how=Reading(deep=deep)) as reader:
        frame = next(iter(reader))[0] / (257 if deep else 1)
    assert np.abs(frame - chroma_ramps())[8:-8, 8:-8].mean() < 0.5


@pytest.mark.parametrize(("size", "matrix"), [("64x718", "bt601"), ("64x720", "bt709")])
def test_untagged_video_is_bt709_from_720_lines_on(size, matrix, tmp_path):
    rgb = (220, 40, 60)
    path = solid(tmp_path / "a.mkv", rgb, matrix=matrix, size=size)
    untagged = dataclasses.replace(probe(path), matrix=None, color_range=None)
    # the tags are in the stream too: take them out of it, or the decoder would hand them to the filter
    strip = "h264_metadata=matrix_coefficients=2:colour_primaries=2:transfer_characteristics=2"
    ffmpeg("-i", path, "-c", "copy", "-bsf:v", strip, tmp_path / "plain.mkv")
    with FrameReader(dataclasses.replace(untagged, path=tmp_path / "plain.mkv")) as reader:
        frames = np.concatenate(list(reader))
    assert np.abs(frames.astype(int) - rgb).max() <= 2


def test_hdr_is_tone_mapped_to_sdr_and_said_so(tmp_path):
    """Diffuse white (203 cd/m2, PQ code 573 of 10 bits) is bright but not clipped; 1000 cd/m2 is brighter."""
    values = {}
    for nits, code in ((0, 64), (203, 573), (1000, 723)):
        path = tmp_path / f"{nits}.mkv"
        gray = f"format=yuv420p10le,geq=lum={code}:cb=512:cr=512,{tags('bt2020nc', 'smpte2084', 'tv')}"
        ffmpeg("-f", "lavfi", "-i", "color=black:s=64x48:r=24", "-frames:v", "1", "-vf", gray, "-c:v", "ffv1", path)
        info = probe(path)
        assert info.hdr
        values[nits] = read_all(path).mean()
    assert values[0] < 2 and 180 < values[203] < 235 and values[203] < values[1000] <= 255


def test_damage_is_read_leniently_and_counted(tmp_path):
    ffmpeg(*source(), *H264, "-movflags", "+faststart", tmp_path / "whole.mp4")
    whole = probe(tmp_path / "whole.mp4")
    data = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) * 6 // 10])
    with FrameReader(dataclasses.replace(whole, path=tmp_path / "cut.mp4")) as reader:
        frames = sum(len(block) for block in reader)
    assert 1 <= frames < 24
    assert reader.warnings == (f"{frames} of 24 frames of cut.mp4 could be decoded",)


def test_a_file_that_vanished_or_became_a_playlist_is_refused(tmp_path, clip):
    path = tmp_path / "a.mp4"
    path.write_bytes(clip("h264 mp4").read_bytes())
    info = probe(path)
    path.rename(tmp_path / "secret.mp4")
    path.write_text("ffconcat version 1.0\nfile secret.mp4\n")
    with FrameReader(info) as reader, pytest.raises(MediaFailed, match="not on whitelist"):
        list(reader)
    path.unlink()
    with FrameReader(info) as reader, pytest.raises(MediaFailed, match="No such file"):
        list(reader)


def test_an_image_is_refused(clip):
    image = dataclasses.replace(probe(clip("h264 mp4")), kind="image")
    with pytest.raises(InvalidParameter, match="read_image"):
        FrameReader(image)


def test_memory_does_not_grow_with_the_length(tmp_path):
    ffmpeg(*source(size="320x240", seconds=20), *H264, tmp_path / "long.mp4")
    own, most, least = psutil.Process(), 0, 1 << 60
    with FrameReader(probe(tmp_path / "long.mp4")) as reader:
        for number, _ in enumerate(reader):
            if number > 5:
                rss = own.memory_info().rss
                most, least = max(most, rss), min(least, rss)
    assert reader.frames_read == 480
    assert most - least < 20 << 20  # the whole clip is 110 MB


def test_close_from_another_thread_ends_a_blocked_read(tmp_path):
    """ffmpeg waits for a writer of a named pipe that never comes, so the read can only end by `close`."""
    ffmpeg(*source(), *H264, tmp_path / "a.mp4")
    info = probe(tmp_path / "a.mp4")
    with FrameReader(info, 1) as reader:
        process = psutil.Process(reader._process.pid)
        frames = iter(reader)
        next(frames)
        process.suspend()  # from here on nothing more arrives than what is in the pipe
        caught: list[BaseException] = []

        def read_on() -> None:
            try:
                for _ in frames:
                    pass
            except MediaFailed as error:
                caught.append(error)

        thread = threading.Thread(target=read_on)
        thread.start()
        reader.close()
        thread.join(timeout=5)
        assert not thread.is_alive()
    assert caught and "stopped before its end" in str(caught[0])
