"""probe: what a file is, and why it is refused."""

from __future__ import annotations

import os
import struct
import time
import zlib
from fractions import Fraction
from pathlib import Path

import pytest
from PIL import Image

from tests.media.clips import H264, KINDS, ffmpeg, sine, solid, source, variable_rate
from upres.errors import FileMissing, InvalidInput, UnsupportedMedia
from upres.media.probe import probe


@pytest.mark.parametrize("kind", KINDS)
def test_probe_counts_the_shown_frames_and_states_rate_and_size(kind, clip):
    info = probe(clip(kind))
    expected = KINDS[kind]
    assert (info.frames, info.fps, (info.width, info.height)) == (expected.frames, expected.fps, expected.size)
    assert info.kind == "video" and not info.variable_frame_rate
    assert info.duration_s == pytest.approx(float(expected.frames / expected.fps))


def test_a_variable_rate_is_told_and_averaged(tmp_path):
    info = probe(variable_rate(tmp_path))
    assert (info.frames, info.variable_frame_rate, info.fps) == (14, True, Fraction(14))


def test_probe_names_the_tracks_in_order(clip):
    info = probe(clip("two audio tracks"))
    assert (info.codec, info.format, info.audio) == ("h264", "matroska", ("aac", "flac"))


@pytest.mark.parametrize(
    ("kind", "warning"),
    [("alpha", "alpha"), ("cover art first", "cover art")],
)
def test_what_will_not_be_carried_is_warned_of(kind, warning, clip):
    assert [w for w in probe(clip(kind)).warnings if warning in w]
    assert not probe(clip("h264 mp4")).warnings


def test_colour_tags_are_reported_and_missing_ones_are_none(tmp_path, clip):
    tagged = probe(solid(tmp_path / "a.mp4", (10, 20, 30), matrix="bt709", color_range="pc"))
    assert (tagged.matrix, tagged.primaries, tagged.transfer, tagged.color_range) == ("bt709", "bt709", "bt709", "pc")
    untagged = probe(clip("mpeg4 avi"))
    assert (untagged.matrix, untagged.primaries, untagged.transfer) == (None, None, None)


def test_the_sample_aspect_turns_with_the_picture(tmp_path):
    ffmpeg(*source(), "-vf", "setsar=4/3", *H264, tmp_path / "wide.mp4")
    ffmpeg("-display_rotation", "90", "-i", tmp_path / "wide.mp4", "-c", "copy", tmp_path / "turned.mp4")
    assert probe(tmp_path / "wide.mp4").sample_aspect == Fraction(4, 3)
    turned = probe(tmp_path / "turned.mp4")
    assert (turned.sample_aspect, turned.rotation) == (Fraction(3, 4), 270)


@pytest.mark.parametrize("name", ["-lead.mp4", "%03d.mp4", "a b;$(x).mp4", "ünï\n.mp4", "concat:a|b.mp4"])
def test_odd_file_names_are_only_names(name, tmp_path, clip):
    odd = tmp_path / name
    odd.write_bytes(clip("h264 mp4").read_bytes())
    assert probe(odd).frames == 24


def test_a_file_name_that_is_not_utf8_can_be_probed(tmp_path, clip):
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.mp4"))
    odd.write_bytes(clip("h264 mp4").read_bytes())
    assert probe(odd).frames == 24


# ---- refusals -----------------------------------------------------------------------------------------------------


def test_a_missing_file_is_not_found(tmp_path):
    with pytest.raises(FileMissing, match=r"gone\.mp4 does not exist"):
        probe(tmp_path / "gone.mp4")


@pytest.mark.parametrize("content", [b"", b"\x00" * 3000, b"hello\n" * 100, bytes(range(256)) * 50])
def test_a_file_that_holds_no_media_is_invalid(content, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(content)
    with pytest.raises(InvalidInput, match=r"bad\.mp4 ") as caught:
        probe(tmp_path / "bad.mp4")
    assert caught.value.remedy


def test_a_folder_without_images_and_a_pipe_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(InvalidInput, match="not a regular file"):
        probe(tmp_path / "pipe.mp4")
    with pytest.raises(InvalidInput, match="without images"):
        probe(tmp_path)


@pytest.mark.parametrize(("asked", "fps"), [
    (23.976, Fraction(24000, 1001)), (29.97, Fraction(30000, 1001)), (24, 24), (12.5, Fraction(25, 2)),
    (24000 / 1001, Fraction(24000, 1001)), (0.001, Fraction(1, 1000))])  # fmt: skip
def test_a_folder_has_the_rate_that_was_meant(asked, fps, tmp_path):
    for name in "ab":
        Image.new("RGB", (16, 16)).save(tmp_path / f"{name}.png")
    info = probe(tmp_path, frame_rate=asked)
    assert (info.frames, info.fps) == (2, fps)


def test_a_path_with_a_nul_byte_is_invalid(tmp_path):
    with pytest.raises(InvalidInput, match="cannot be read"):
        probe(tmp_path / "a\0b.mp4")


def test_a_file_cut_before_its_index_is_invalid(tmp_path, clip):
    whole = clip("b-frames").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidInput, match="moov atom not found"):
        probe(tmp_path / "cut.mp4")


def test_a_file_cut_behind_its_index_is_counted_and_warned_of(tmp_path):
    ffmpeg(*source(), *H264, "-movflags", "+faststart", tmp_path / "whole.mp4")
    whole = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) * 6 // 10])
    info = probe(tmp_path / "cut.mp4")
    assert 1 <= info.frames < 24
    assert any("damaged" in warning for warning in info.warnings)


def test_sound_without_picture_is_unsupported(tmp_path):
    ffmpeg(*sine(), "-c:a", "aac", tmp_path / "a.m4a")
    with pytest.raises(UnsupportedMedia, match="has no picture"):
        probe(tmp_path / "a.m4a")


def playlists(video: Path) -> dict[str, str]:
    return {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile://{video}\n#EXT-X-ENDLIST\n",
        "ffconcat": f"ffconcat version 1.0\nfile {video.name}\n",
        "ffconcat behind a blank line": f"\nffconcat version 1.0\nfile {video.name}\n",
        "dash": f"<?xml version='1.0'?><MPD><BaseURL>{video}</BaseURL></MPD>",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
    }


@pytest.mark.parametrize("suffix", [".mp4", ".m3u8", ".txt"])
@pytest.mark.parametrize("kind", playlists(Path("x")))
def test_a_playlist_never_opens_what_it_names(kind, suffix, tmp_path, clip):
    video = tmp_path / "secret.mp4"
    video.write_bytes(clip("h264 mp4").read_bytes())
    (tmp_path / f"list{suffix}").write_text(playlists(video)[kind])
    with pytest.raises((UnsupportedMedia, InvalidInput), match="list"):
        probe(tmp_path / f"list{suffix}")


def test_a_disguised_playlist_is_called_one(tmp_path):
    (tmp_path / "a.mp4").write_text("ffconcat version 1.0\nfile b.mp4\n")
    with pytest.raises(UnsupportedMedia, match=r"a\.mp4 is a playlist"):
        probe(tmp_path / "a.mp4")


def test_an_image_type_we_do_not_read_is_unsupported(tmp_path):
    ffmpeg(*source(), "-frames:v", "1", tmp_path / "a.gif")
    with pytest.raises(UnsupportedMedia, match=r"a\.gif"):
        probe(tmp_path / "a.gif")


def png_of(width: int, height: int) -> bytes:
    """A valid PNG head that promises width x height pixels, with the start of a tiny stream of zeros."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [9000, 12_000, 20_000, 60_000])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(side, tmp_path):
    (tmp_path / "bomb.png").write_bytes(png_of(side, side))
    with pytest.raises(InvalidInput, match=r"bomb\.png has .*pixels"):
        probe(tmp_path / "bomb.png")


def test_a_video_of_too_many_pixels_is_refused(tmp_path):
    ffmpeg("-f", "lavfi", "-i", "color=s=9000x9000:r=1,format=monob", "-frames:v", "1", "-c:v", "png",
           tmp_path / "bomb.mkv")  # fmt: skip
    with pytest.raises(InvalidInput, match="9000x9000 pixels"):
        probe(tmp_path / "bomb.mkv")


def test_a_reader_that_takes_too_long_is_stopped(clip):
    started = time.monotonic()
    with pytest.raises(InvalidInput, match="could not be read in"):
        probe(clip("h264 mp4"), timeout_s=0.001)
    assert time.monotonic() - started < 5
