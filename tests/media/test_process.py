"""FfmpegProcess: however it is left, no process, thread or file descriptor stays."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
import threading
from fractions import Fraction

import psutil
import pytest

from tests.media.clips import moving_gradient
from upres.errors import MediaFailed
from upres.media.decode import FrameReader
from upres.media.encode import FrameWriter
from upres.media.ffmpeg import STDERR_BYTES, FfmpegProcess
from upres.media.probe import probe

ENDLESS = ["-f", "lavfi", "-i", "testsrc2=s=64x48", "-f", "rawvideo", "pipe:1"]
ENDLESS_TO_NOWHERE = ["-re", "-f", "lavfi", "-i", "testsrc2=s=64x48", "-f", "null", "-"]


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_leaving_in_mid_stream_ends_the_process(clip):
    with FrameReader(probe(clip("h264 mp4")), 1) as reader:
        next(iter(reader))
        pid = reader._process.pid
    assert not psutil.pid_exists(pid)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_any_exception_ends_the_process(error):
    with pytest.raises(error), FfmpegProcess(ENDLESS, doing="testing", yields=True) as process:
        pid = process.pid
        raise error
    assert not psutil.pid_exists(pid)


def test_the_end_of_the_stream_reaps_the_process_before_the_with_ends(clip):
    with FrameReader(probe(clip("h264 mp4"))) as reader:
        list(reader)
        assert not psutil.pid_exists(reader._process.pid)


def test_twenty_clips_leave_no_descriptor_and_no_thread(clip, tmp_path):
    info = probe(clip("one frame"))
    threads, descriptors = threading.active_count(), psutil.Process().num_fds()
    for _ in range(10):
        with FrameReader(info) as reader:
            list(reader)
        with FrameWriter(tmp_path / "a.mp4", width=96, height=64, fps=Fraction(24)) as writer:
            writer.write(moving_gradient(1))
    assert (threading.active_count(), psutil.Process().num_fds()) == (threads, descriptors)


def test_close_may_be_called_often_and_after_the_end(clip):
    with FrameReader(probe(clip("one frame"))) as reader:
        list(reader)
        reader.close()
    reader.close()


def test_a_process_that_stops_answering_is_killed_when_read(clip):
    with FfmpegProcess(ENDLESS, doing="testing", yields=True, stall_s=0.4) as process:
        psutil.Process(process.pid).suspend()
        with pytest.raises(MediaFailed, match=r"testing: ffmpeg made no progress for 0\.4 s"):
            while True:
                process.read_into(memoryview(bytearray(1 << 20)))
    assert not psutil.pid_exists(process.pid)


def test_a_process_that_stops_answering_is_killed_when_written_to(tmp_path):
    with (
        pytest.raises(MediaFailed, match="no progress"),
        FrameWriter(tmp_path / "a.mp4", width=96, height=64, fps=Fraction(24), stall_s=0.4) as writer,
    ):
        psutil.Process(writer._process.pid).suspend()
        while True:
            writer.write(moving_gradient(50))
    assert not os.listdir(tmp_path)


def test_a_process_that_never_ends_is_killed_when_waited_for(tmp_path):
    with (
        pytest.raises(MediaFailed, match="no progress"),
        FrameWriter(tmp_path / "a.mp4", width=96, height=64, fps=Fraction(24), stall_s=0.4) as writer,
    ):
        writer.write(moving_gradient(2))
        psutil.Process(writer._process.pid).suspend()


def test_a_slow_reader_is_not_taken_for_a_stalled_process():
    """The clock runs only while somebody waits for ffmpeg: here nobody does for many times the limit."""
    with FfmpegProcess(ENDLESS, doing="testing", yields=True, stall_s=4) as process:
        assert process.read_into(memoryview(bytearray(100))) == 100
        process._stall_s = 0.1  # now that it is running, however long a loaded machine took to start it
        assert not process._ended.wait(1.3)  # the watch looks once a second
        assert process.read_into(memoryview(bytearray(100))) == 100


def test_steady_progress_is_not_a_stall():
    """A job of 2.5 s (the first half second comes at once) with a limit of 1.5 s; its frame count goes on."""
    job = ["-re", "-f", "lavfi", "-i", "testsrc2=s=64x48:d=3", "-f", "null", "-"]
    with FfmpegProcess(job, doing="testing", stall_s=1.5) as process:
        process.finish()
    assert process.frames_reported == 75


def test_a_flood_of_messages_neither_blocks_nor_grows():
    with FfmpegProcess(
        ["-v", "info", "-f", "lavfi", "-i", "testsrc2=d=20,showinfo", "-f", "null", "-"], doing="x"
    ) as process:
        process.finish()
    assert len(process._stderr) == STDERR_BYTES and len(process.errors()) <= 800


def test_messages_show_neither_credentials_nor_folders(tmp_path):
    address = "http://me:hunter2@host.invalid/a?token=abc123"
    for name, secret in ((address, "hunter2"), (address, "abc123"), (f"file:{tmp_path}/gone.mp4", str(tmp_path))):
        with FfmpegProcess(["-protocol_whitelist", "file", "-i", name, "-f", "null", "-"], doing="x") as process:
            with pytest.raises(MediaFailed) as caught:
                process.finish()
            assert secret not in str(caught.value)
            assert secret in process._stderr.decode()
    assert "gone.mp4" in str(caught.value)


def test_arguments_are_never_seen_by_a_shell(tmp_path):
    arguments = ["-i", f"file:$(touch {tmp_path}/x);.mp4", "-f", "null", "-"]
    with pytest.raises(MediaFailed), FfmpegProcess(arguments, doing="x") as process:
        process.finish()
    assert not os.listdir(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_a_killed_owner_leaves_no_running_ffmpeg():
    """A job that needs no pipe would run on to its end; only the parent-death signal stops it."""
    owner_code = f"""
        import sys
        from upres.media.ffmpeg import FfmpegProcess
        with FfmpegProcess({ENDLESS_TO_NOWHERE!r}, doing="x") as process:
            while not process.frames_reported:  # ffmpeg itself is running, not the guard any more
                process._ended.wait(0.01)
            print(process.pid, flush=True)
            sys.stdin.read()
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(owner_code)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        pid = int(owner.stdout.readline())
        death = os.pidfd_open(pid)  # readable when the process is dead, reaped or not
        assert alive(pid)
        owner.send_signal(signal.SIGKILL)
        poll = select.poll()
        poll.register(death, select.POLLIN)
        assert poll.poll(5000)
        os.close(death)
    assert not alive(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_the_guard_starts_nothing_when_its_owner_is_gone():
    from upres.media import ffmpeg

    not_the_parent = str(os.getppid())
    command = [sys.executable, "-I", "-S", str(ffmpeg._GUARD), not_the_parent, "0", "/bin/echo", "ran"]
    result = subprocess.run(command, capture_output=True, check=False)
    assert (result.returncode, result.stdout) == (1, b"")
