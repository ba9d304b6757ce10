"""Children that read files: forked from a process that has their libraries loaded, and never more alive than it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.media.clips import ffmpeg
from tests.support import until
from upres.media.probe import CONTAINERS, MAX_PIXELS
from upres.media.readers import NURSERY, Readers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="readers are forked on Linux alone")


def nursery_of(readers: Readers) -> psutil.Process:
    return psutil.Process(readers.nursery_pid)


def arguments(path: Path, seconds: int = 30) -> tuple[str, ...]:
    return (str(path), str(MAX_PIXELS), "3600", CONTAINERS, str(seconds))


@pytest.fixture
def picture(tmp_path):
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48", "-frames:v", "1", tmp_path / "a.png")
    return tmp_path / "a.png"


@pytest.fixture
def forking(picture):
    """Readers that fork from now on."""
    readers = Readers()
    until(lambda: readers.read(arguments(picture), 30).forked, "they are forked")
    yield readers
    readers.close()


def test_the_first_file_is_read_without_a_nursery_and_later_ones_from_it(picture):
    readers = Readers()
    first = readers.read(arguments(picture), 30)
    assert not first.forked and readers.nursery_pid is None
    until(lambda: readers.read(arguments(picture), 30).forked, "they are forked")
    nursery = nursery_of(readers)
    readers.close()
    assert not nursery.is_running()


@pytest.mark.parametrize("name", ["picture", "video", "damaged", "caf\u00e9 \udc80", "nothing"])
def test_a_forked_reader_says_what_one_apart_says(name, picture, forking, tmp_path):
    path = tmp_path / f"{name}.bin"
    match name:
        case "video":
            ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48", "-frames:v", "5", "-f", "mp4", path)
        case "damaged":
            path.write_bytes(picture.read_bytes()[:60])
        case "nothing":
            path.write_bytes(b"\x00" * 500)
        case _:
            path.write_bytes(picture.read_bytes())
    forked, apart = forking.read(arguments(path), 30), Readers().read(arguments(path), 30)
    assert forked.forked and not apart.forked
    assert forked.answer == apart.answer and forked.answer.endswith(b"}\n")


def test_a_reader_whose_nursery_was_killed_is_replaced_by_one_apart(picture, forking):
    nursery = nursery_of(forking)
    nursery.kill()
    said = forking.read(arguments(picture), 30)
    assert not said.forked and said.answer.endswith(b"}\n")
    until(lambda: forking.read(arguments(picture), 30).forked, "there is another nursery")
    assert forking.nursery_pid != nursery.pid


def test_a_reader_that_hangs_is_given_up_and_ends_itself(forking, tmp_path):
    os.mkfifo(tmp_path / "endless")
    nursery = nursery_of(forking)
    with pytest.raises(TimeoutError):
        forking.read(arguments(tmp_path / "endless", seconds=1), 1)
    until(lambda: not nursery.children(), "it ended")


def test_who_decodes_a_strangers_file_is_told_no_secrets(picture, monkeypatch):
    monkeypatch.setenv("UPRES_TOKEN", "t" * 40)
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    readers = Readers()
    until(lambda: readers.read(arguments(picture), 30).forked, "they are forked")
    assert not {"UPRES_TOKEN", "HF_TOKEN"} & nursery_of(readers).environ().keys()
    readers.close()


OWNER = """
import sys
from pathlib import Path
from upres.media.readers import Readers
readers = Readers()
while not readers.read(tuple(sys.argv[2:]), 30).forked:
    pass
print("forking", flush=True)
readers.read((sys.argv[1], *sys.argv[3:]), 30)
"""


def test_nursery_and_readers_end_with_a_killed_owner(picture, tmp_path):
    os.mkfifo(tmp_path / "endless")
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path / "endless"), *arguments(picture)],
                             stdout=subprocess.PIPE)  # fmt: skip
    with owner:
        assert owner.stdout.readline() == b"forking\n"
        (nursery,) = [child for child in psutil.Process(owner.pid).children() if str(NURSERY) in child.cmdline()]
        until(lambda: bool(nursery.children()), "one reads")
        family = [nursery, *nursery.children()]
        owner.kill()
    until(lambda: not any(map(psutil.Process.is_running, family)), "they are gone")
