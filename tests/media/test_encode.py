"""FrameWriter: what is given is what the file holds, or there is no file."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
from fractions import Fraction

import av
import numpy as np
import psutil
import pytest

from tests.media.clips import chroma_location, chroma_ramps, moving_gradient, packets
from upres.errors import DiskFull, InvalidParameter, MediaFailed
from upres.media.decode import FrameReader, Reading
from upres.media.encode import FrameWriter
from upres.media.output import H264, Colour, Output
from upres.media.probe import probe


def write(path, frames, fps=Fraction(24), **options):
    _, height, width, _ = frames.shape
    with FrameWriter(path, width=width, height=height, fps=fps, **options) as writer:
        for start in range(0, len(frames), 5):
            writer.write(frames[start : start + 5])
    assert writer.frames_written == len(frames)
    return path


def read(path):
    with FrameReader(probe(path)) as reader:
        return np.concatenate(list(reader))


def psnr_db(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


@pytest.mark.parametrize(("output", "levels"), [
    (Output("h265", "mp4", 10, crf=0), 2.0), (Output("prores", "mov", 10), 1.0), (Output("ffv1", "mkv", 10), 0.51),
    (Output("ffv1", "mkv", 16), 0.0), (Output("png", "zip", 16), 0.0),
], ids=lambda value: getattr(value, "codec", ""))  # fmt: skip
def test_deep_samples_come_back_rounded_and_not_shifted(output, levels, tmp_path):
    """In 10-bit levels; rounding alone has a mean of zero."""
    ramp = np.linspace(0, 65535, 256).round().astype(np.uint16)[None, None, :, None]
    frames = np.broadcast_to(ramp, (2, 32, 256, 3))
    path = write(tmp_path / f"a.{output.video.segment}", np.ascontiguousarray(frames), output=output)
    with FrameReader(probe(path), how=Reading(deep=True)) as reader:
        off = (np.concatenate(list(reader)).astype(float) - frames) / 64
    assert abs(off).max() <= levels and abs(off.mean()) < 0.03, (abs(off).max(), off.mean())


WIDE = Colour("bt2020", "smpte2084", "bt2020nc")


@pytest.mark.parametrize(("output", "location"), [
    (Output("h264", "mp4", 8, crf=0), "left"), (Output("h265", "mp4", 10, crf=0), "left"),
    (Output("av1", "mp4", 10, crf=5), "left"), (Output("vp9", "webm", 10, crf=5), "left"),
    (Output("h265", "mp4", 10, crf=0, colour=WIDE), "topleft"),
    (Output("av1", "mp4", 10, crf=5, colour=WIDE), "topleft"), (Output("vp9", "webm", 10, crf=5, colour=WIDE), "left"),
], ids=lambda value: getattr(value, "codec", ""))  # fmt: skip
def test_the_file_says_where_its_chroma_lies_and_it_lies_there(output, location, tmp_path):
    """Blue and red rise by 1.6 and 1.2 levels a pixel."""
    scale = 257 if output.deep else 1
    frames = np.tile((chroma_ramps() * scale).round().astype(np.uint16 if output.deep else np.uint8), (3, 1, 1, 1))
    path = write(tmp_path / f"a.{output.video.segment}", frames, output=output)
    assert chroma_location(path) == location
    with FrameReader(probe(path), how=Reading(deep=output.deep, tone_map=False)) as reader:
        off = (next(iter(reader))[0] / scale - chroma_ramps())[8:-8, 8:-8]
    assert abs(off.mean(axis=(0, 1))).max() < 0.5 and np.abs(off).mean() < 0.8


@pytest.mark.parametrize("bits", [8, 10])
def test_chroma_is_put_where_players_take_it_from(bits, tmp_path):
    """Left: a chroma sample is what the even pixels below it have. Blue rises by 1.4 levels a pixel."""
    blue = np.broadcast_to(60 + 1.4 * np.arange(128), (2, 64, 128))
    frames = np.stack([np.full_like(blue, 90), np.full_like(blue, 90), blue], -1).round()
    frames = (frames * 257).astype(np.uint16) if bits > 8 else frames.astype(np.uint8)
    path = write(tmp_path / "a.mp4", frames, output=dataclasses.replace(H264, crf=0, bits=bits))
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    plane = np.frombuffer(frame.planes[1], "<u2" if bits > 8 else np.uint8).reshape(32, -1)[16, :64] / (1 << bits - 8)
    wanted = 128 + 224 * (blue[0, 0] - 90) * (1 - 0.0722) / 255 / (2 - 2 * 0.0722)
    assert abs((plane - wanted[::2])[4:-4].mean()) < 0.1


@pytest.mark.parametrize("count", [1, 23])
@pytest.mark.parametrize("rate", ["24000/1001", "30000/1001", "25", "1/2", "1000", "168/11"])
def test_the_file_holds_every_frame_at_exactly_the_rate(rate, count, tmp_path):
    path = write(tmp_path / "a.mp4", moving_gradient(count), Fraction(rate))
    info = probe(path)
    assert (info.frames, info.fps, info.variable_frame_rate) == (count, Fraction(rate), False)
    assert packets(path) == count


def test_what_is_written_is_read_back(tmp_path):
    frames = moving_gradient(12)
    assert psnr_db(read(write(tmp_path / "a.mp4", frames)), frames) > 40


@pytest.mark.parametrize("rgb", [(200, 30, 60), (20, 180, 240), (128, 128, 128), (255, 255, 255), (0, 0, 0)])
def test_a_solid_colour_comes_back_within_two_levels(rgb, tmp_path):
    frames = np.broadcast_to(np.array(rgb, np.uint8), (3, 48, 64, 3))
    fine = dataclasses.replace(H264, crf=1)
    assert np.abs(read(write(tmp_path / "a.mp4", frames, output=fine)).astype(int) - rgb).max() <= 2


def test_the_output_is_tagged_bt709_limited_and_keeps_the_sample_aspect(tmp_path):
    info = probe(write(tmp_path / "a.mp4", moving_gradient(3), sample_aspect=Fraction(64, 45)))
    assert (info.matrix, info.primaries, info.transfer, info.color_range) == ("bt709", "bt709", "bt709", "tv")
    assert (info.codec, info.pix_fmt, info.sample_aspect) == ("h264", "yuv420p", Fraction(64, 45))


def test_the_file_holds_only_a_picture(tmp_path):
    with av.open(str(write(tmp_path / "a.mp4", moving_gradient(3)))) as container:
        assert [stream.type for stream in container.streams] == ["video"]


def test_frames_need_not_be_contiguous(tmp_path):
    frames = moving_gradient(6)
    assert psnr_db(read(write(tmp_path / "a.mp4", frames[::2, :, ::-1])), frames[::2, :, ::-1]) > 40


@pytest.mark.parametrize("size", [(63, 48), (64, 47), (0, 48), (1, 1)])
def test_sizes_that_420_cannot_hold_are_refused(size, tmp_path):
    with pytest.raises(InvalidParameter, match=f"{size[0]}x{size[1]}"):
        FrameWriter(tmp_path / "a.mp4", width=size[0], height=size[1], fps=Fraction(24))


@pytest.mark.parametrize(("codec", "size", "remedy"), [
    ("h265", (14, 64), "from 16x16 on, or codec=h264"), ("av1", (64, 8), "from 16x16 on"), ("h264", (2, 2), ""),
    ("ffv1", (1, 8), "from 2x2 on"), ("ffv1", (3, 3), ""), ("h265", (16, 16), ""),
])  # fmt: skip
def test_sizes_that_an_encoder_does_not_take_are_refused_before_it_starts(codec, size, remedy, tmp_path):
    output = Output(codec, "mkv", 8)
    if remedy:
        with pytest.raises(InvalidParameter, match=f"{size[0]}x{size[1]}") as refused:
            output.check_size(*size)
        assert remedy in refused.value.remedy
    else:
        output.check_size(*size)
        write(tmp_path / f"a.{output.video.segment}", np.zeros((2, size[1], size[0], 3), np.uint8), output=output)


@pytest.mark.parametrize("frames", [np.zeros((1, 48, 66, 3), np.uint8), np.zeros((1, 48, 64, 3), np.float32),
                                    np.zeros((48, 64, 3), np.uint8)])  # fmt: skip
def test_frames_of_another_shape_or_type_are_refused(frames, tmp_path):
    with (
        pytest.raises(InvalidParameter, match="frames are"),
        FrameWriter(tmp_path / "a.mp4", width=64, height=48, fps=Fraction(24)) as writer,
    ):
        writer.write(frames)
    assert not os.listdir(tmp_path)


def write_until_the_file_exists(writer, path):
    while not path.exists():
        writer.write(moving_gradient(20))


def test_an_exception_inside_leaves_no_file(tmp_path):
    with (
        pytest.raises(KeyError),
        FrameWriter(tmp_path / "a.mp4", width=96, height=64, fps=Fraction(24)) as writer,
    ):
        write_until_the_file_exists(writer, tmp_path / "a.mp4")
        raise KeyError
    assert not os.listdir(tmp_path)


def test_nothing_written_is_a_failure_and_leaves_no_file(tmp_path):
    with (
        pytest.raises(MediaFailed, match="no frame"),
        FrameWriter(tmp_path / "a.mp4", width=96, height=64, fps=Fraction(24)),
    ):
        pass
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("when", ["writing", "finishing"])
def test_an_encoder_killed_mid_way_is_a_failure_and_leaves_no_file(when, tmp_path):
    with (
        pytest.raises(MediaFailed, match="killed by signal 9"),
        FrameWriter(tmp_path / "a.mp4", width=96, height=64, fps=Fraction(24)) as writer,
    ):
        write_until_the_file_exists(writer, tmp_path / "a.mp4")
        os.kill(writer._process.pid, signal.SIGKILL)
        while when == "writing":
            writer.write(moving_gradient(20))
    assert not os.listdir(tmp_path)


def test_a_file_of_fewer_frames_than_were_given_is_a_failure(tmp_path):
    with (
        pytest.raises(MediaFailed, match=r"a\.mp4 holds 5 frames of 6 given"),
        FrameWriter(tmp_path / "a.mp4", width=96, height=64, fps=Fraction(24)) as writer,
    ):
        writer.write(moving_gradient(5))
        writer.frames_written += 1
    assert not os.listdir(tmp_path)


def test_an_encoder_ended_early_but_politely_is_a_failure(tmp_path):
    """On SIGTERM ffmpeg closes a playable, short file: only the frame count tells."""
    with (
        pytest.raises(MediaFailed),
        FrameWriter(tmp_path / "a.mp4", width=96, height=64, fps=Fraction(24)) as writer,
    ):
        for _ in range(50):
            write_until_the_file_exists(writer, tmp_path / "a.mp4")
        os.kill(writer._process.pid, signal.SIGTERM)
    assert not os.listdir(tmp_path)


def test_a_full_disk_is_called_that(tmp_path):
    (tmp_path / "full.mp4").symlink_to("/dev/full")
    with (
        pytest.raises(DiskFull, match=r"full\.mp4"),
        FrameWriter(tmp_path / "full.mp4", width=96, height=64, fps=Fraction(24)) as writer,
    ):
        writer.write(moving_gradient(5))
    assert not os.listdir(tmp_path)


def test_a_folder_that_does_not_exist_is_a_failure_with_a_reason(tmp_path):
    with (
        pytest.raises(MediaFailed, match="No such file"),
        FrameWriter(tmp_path / "gone" / "a.mp4", width=96, height=64, fps=Fraction(24)) as writer,
    ):
        while True:
            writer.write(moving_gradient(20))


def test_close_from_another_thread_ends_a_blocked_write(tmp_path):
    caught: list[BaseException] = []
    blocks = moving_gradient(100)

    def write_on(writer: FrameWriter, started: threading.Event) -> None:
        try:
            while True:
                writer.write(blocks)
                started.set()
        except MediaFailed as error:
            caught.append(error)

    with (
        pytest.raises(MediaFailed),
        FrameWriter(tmp_path / "a.mp4", width=96, height=64, fps=Fraction(24)) as writer,
    ):
        started = threading.Event()
        thread = threading.Thread(target=write_on, args=(writer, started))
        thread.start()
        started.wait(timeout=10)
        psutil.Process(writer._process.pid).suspend()
        writer.close()
        thread.join(timeout=5)
        assert not thread.is_alive()
    assert caught and not os.listdir(tmp_path)
