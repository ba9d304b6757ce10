"""mux: the restored picture with everything the source has besides its picture."""

from __future__ import annotations

import dataclasses
import os
from fractions import Fraction

import av
import pytest

from tests.media.clips import H264, ffmpeg, moving_gradient, packets, sine, source
from upres.errors import DiskFull, MediaFailed
from upres.media.encode import FrameWriter
from upres.media.mux import mux
from upres.media.probe import probe


@pytest.fixture(scope="module")
def restored(tmp_path_factory):
    """24 frames at 24 per second: the picture of every source here, restored."""
    path = tmp_path_factory.mktemp("restored") / "picture.mp4"
    with FrameWriter(path, width=96, height=64, fps=Fraction(24)) as writer:
        writer.write(moving_gradient(24))
    return path


def tracks(path):
    with av.open(str(path)) as container:
        return [(stream.type, stream.codec_context.codec.canonical_name) for stream in container.streams
                if stream.type != "data"]  # fmt: skip


def start_s(path):
    """First shown time of each track: (video, audio)."""
    with av.open(str(path)) as container:
        return [
            float(stream.start_time * stream.time_base)
            for stream in (container.streams.video[0], container.streams.audio[0])
        ]


def sound_packets(path):
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


def test_a_silent_source_gives_a_silent_file_of_every_frame(restored, tmp_path, clip):
    assert mux(restored, probe(clip("h264 mp4")), tmp_path / "out.mp4.part") == ()
    assert tracks(tmp_path / "out.mp4.part") == [("video", "h264")]
    assert packets(tmp_path / "out.mp4.part") == 24


def test_all_sound_is_copied_in_order_and_bit_for_bit(restored, tmp_path, clip):
    assert mux(restored, probe(clip("two audio tracks")), tmp_path / "out.part") == ()
    assert tracks(tmp_path / "out.part") == [("video", "h264"), ("audio", "aac"), ("audio", "flac")]
    assert sound_packets(tmp_path / "out.part") == sound_packets(clip("two audio tracks"))


def test_the_picture_keeps_rate_frames_and_tags(restored, tmp_path, clip):
    mux(restored, probe(clip("two audio tracks")), tmp_path / "out.mp4")
    before, after = probe(restored), probe(tmp_path / "out.mp4")
    assert dataclasses.replace(after, path=before.path, audio=()) == before


@pytest.mark.parametrize("codec", ["pcm_s16le", "libvorbis"])
def test_sound_that_mp4_cannot_hold_becomes_aac_with_a_warning(codec, restored, tmp_path):
    ffmpeg(*source(), *sine(), *H264, "-c:a", codec, tmp_path / "in.mkv")
    (warning,) = mux(restored, probe(tmp_path / "in.mkv"), tmp_path / "out.mp4")
    assert "converted to AAC: MP4 does not hold it" in warning
    assert tracks(tmp_path / "out.mp4") == [("video", "h264"), ("audio", "aac")]


def test_sound_of_an_unknown_codec_is_dropped_and_the_rest_carried(restored, tmp_path, clip):
    info = dataclasses.replace(probe(clip("two audio tracks")), audio=("unknown", "flac"))
    assert mux(restored, info, tmp_path / "out.mp4") == ("sound track 1 is dropped: its codec is unknown",)
    assert tracks(tmp_path / "out.mp4") == [("video", "h264"), ("audio", "flac")]


SUBTITLES = "1\n00:00:00,100 --> 00:00:00,600\nHello\n"


def test_text_subtitles_chapters_and_tags_are_carried(restored, tmp_path):
    (tmp_path / "a.srt").write_text(SUBTITLES)
    chapters = "[CHAPTER]\nTIMEBASE=1/1000\nSTART={}\nEND={}\ntitle={}\n"
    (tmp_path / "meta").write_text(
        ";FFMETADATA1\ntitle=A film\n" + chapters.format(0, 400, "one") + chapters.format(400, 1000, "two")
    )
    ffmpeg(*source(), *sine(), "-i", tmp_path / "a.srt", "-i", tmp_path / "meta", "-map", "0", "-map", "1", "-map", "2",
           "-map_metadata", "3", "-metadata:s:a:0", "language=fra", *H264, tmp_path / "in.mkv")  # fmt: skip
    assert mux(restored, probe(tmp_path / "in.mkv"), tmp_path / "out.mp4")[1:] == ()
    with av.open(str(tmp_path / "out.mp4")) as out:
        assert out.metadata["title"] == "A film"
        assert [(c["start"] * c["time_base"], c["metadata"]["title"]) for c in out.chapters()] == [
            (0, "one"), (Fraction(2, 5), "two")]  # fmt: skip
        assert out.streams.audio[0].language == "fra"
        text = [bytes(packet) for packet in out.demux(out.streams.subtitles[0]) if packet.size > 2]
    assert text == [b"\x00\x05Hello"]


def test_picture_subtitles_are_dropped_with_a_warning(restored, tmp_path):
    (tmp_path / "a.srt").write_text(SUBTITLES)
    ffmpeg(*source(), *H264, tmp_path / "in.mkv")
    info = dataclasses.replace(probe(tmp_path / "in.mkv"), subtitles=("hdmv_pgs_subtitle",))
    assert mux(restored, info, tmp_path / "out.mp4") == (
        "subtitle track 1 (hdmv_pgs_subtitle) is dropped: MP4 cannot hold it",
    )


@pytest.mark.parametrize("suffix", ["mkv", "ts", "mp4"])
@pytest.mark.parametrize(("picture_s", "sound_s"), [(0, 0), (0.5, 0), (0, 0.5), (5, 5.25)])
def test_the_distance_of_picture_and_sound_is_kept(picture_s, sound_s, suffix, restored, tmp_path):
    """AAC packets are 21 ms long and their encoder starts one packet early: within two of them is the same place."""
    ffmpeg("-itsoffset", str(picture_s), *source(), "-itsoffset", str(sound_s), *sine(), *H264, "-c:a", "aac",
           tmp_path / f"in.{suffix}")  # fmt: skip
    info = probe(tmp_path / f"in.{suffix}")
    mux(restored, info, tmp_path / "out.mp4")
    before, after = start_s(tmp_path / f"in.{suffix}"), start_s(tmp_path / "out.mp4")
    assert after[1] - after[0] == pytest.approx(before[1] - before[0], abs=0.043)
    assert min(after) == pytest.approx(0, abs=0.043)


def test_a_cut_with_an_edit_list_keeps_sound_and_picture_together(restored, tmp_path, clip):
    info = probe(clip("edit list"))
    mux(restored, info, tmp_path / "out.mp4")
    before, after = start_s(clip("edit list")), start_s(tmp_path / "out.mp4")
    assert after[1] - after[0] == pytest.approx(before[1] - before[0], abs=0.043)


def test_the_index_is_at_the_front(restored, tmp_path, clip):
    mux(restored, probe(clip("two audio tracks")), tmp_path / "out.mp4")
    data = (tmp_path / "out.mp4").read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


def test_a_full_disk_is_called_that_and_leaves_no_file(restored, tmp_path, clip):
    (tmp_path / "full.mp4").symlink_to("/dev/full")
    with pytest.raises(DiskFull):
        mux(restored, probe(clip("two audio tracks")), tmp_path / "full.mp4")
    assert not os.listdir(tmp_path)


def test_a_source_that_vanished_is_a_failure_and_leaves_no_file(restored, tmp_path, clip):
    info = probe(clip("two audio tracks"))
    (tmp_path / "short.mkv").write_bytes(b"")
    with pytest.raises(MediaFailed):
        mux(restored, dataclasses.replace(info, path=tmp_path / "short.mkv"), tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()
