"""NVENC: one frame tells whether it works, before a task is accepted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from upres.errors import InvalidParameter
from upres.intake import with_encoder
from upres.media import nvenc
from upres.media.ffmpeg import ffmpeg_path
from upres.media.probe import MediaInfo, probe
from upres.tasks import order

STAND_IN = """#!/bin/sh
echo x >> "$0.calls"
case "$*" in *hevc_nvenc*) echo "[hevc_nvenc @ 0x1] no HEVC" >&2; exit 1;; esac
[ "$CUDA_VISIBLE_DEVICES" = GPU-good ] && exit 0
echo "[h264_nvenc @ 0x1] No capable devices found" >&2
echo "and more" >&2
exit 1
"""


@pytest.fixture
def info(small_video: Path) -> MediaInfo:
    return probe(small_video)


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An ffmpeg whose H.264 by NVENC works on the device GPU-good alone; it notes every call."""
    script = tmp_path / "ffmpeg"
    script.write_text(STAND_IN)
    script.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(script))
    ffmpeg_path.cache_clear()
    yield script
    ffmpeg_path.cache_clear()


def decided(info: MediaInfo, devices: list[str], **asked: object) -> tuple[str, str]:
    spec, why = with_encoder(order(input_path=str(info.path), **asked), info, devices)
    return spec.encoder, why


@pytest.mark.skipif(os.path.exists("/dev/nvidia0"), reason="this machine may have NVENC")
def test_without_a_driver_ffmpeg_itself_says_why_not() -> None:
    assert nvenc.nvenc_refusal("h264", 8) == "h264_nvenc: Cannot load libcuda.so.1"


def test_auto_takes_nvenc_where_a_frame_succeeds_and_software_where_it_fails(info: MediaInfo, stand_in: Path) -> None:
    assert decided(info, ["GPU-good"], encoder="auto") == ("nvenc", "")
    name, why = decided(info, ["GPU-good", "GPU-h100"], encoder="auto")
    assert name == "software" and why.endswith("h264_nvenc: No capable devices found")
    assert decided(info, ["GPU-good"], encoder="auto", codec="h265")[1].endswith("no HEVC")


def test_auto_asks_no_card_for_what_none_writes(info: MediaInfo, stand_in: Path) -> None:
    assert decided(info, ["GPU-good"], encoder="auto", codec="vp9")[0] == "software"
    assert decided(info, ["GPU-good"], encoder="auto", codec="h264", bit_depth=10)[0] == "software"
    assert decided(info, [], encoder="auto") == ("software", "written by a software encoder: tasks run on the CPU")
    assert not stand_in.with_name("ffmpeg.calls").exists()


def test_a_card_is_asked_once(info: MediaInfo, stand_in: Path) -> None:
    for _ in range(3):
        assert decided(info, ["GPU-good"], encoder="nvenc") == ("nvenc", "")
    assert stand_in.with_name("ffmpeg.calls").read_text() == "x\n"


@pytest.mark.parametrize("device", ["", "GPU-good"])
def test_the_trial_is_told_no_secrets(stand_in: Path, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    stand_in.write_text(f"#!/bin/sh\nenv > {stand_in}.told\n")
    secrets = {"UPRES_TOKEN": "t" * 40, "HF_TOKEN": "hf_x", "AWS_SECRET_ACCESS_KEY": "y", "FFREPORT": "file=/tmp/x"}
    wanted = {"LD_LIBRARY_PATH": "/opt/driver", "CUDA_DEVICE_ORDER": "PCI_BUS_ID", "HOME": "/home/someone"}
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name, value in (secrets | wanted).items():
        monkeypatch.setenv(name, value)
    assert nvenc.nvenc_refusal("h264", 8, device) == ""
    told = dict(line.partition("=")[::2] for line in stand_in.with_name("ffmpeg.told").read_text().splitlines())
    assert not told.keys() & secrets.keys() and wanted.items() <= told.items() and told["PATH"] == os.environ["PATH"]
    assert told.get("CUDA_VISIBLE_DEVICES", "") == device


def test_what_was_asked_for_and_does_not_work_is_refused_with_the_reason(info: MediaInfo, stand_in: Path) -> None:
    with pytest.raises(InvalidParameter, match=r"No capable devices found.*encoder=software, or auto"):
        decided(info, ["GPU-h100"], encoder="nvenc")
