"""One file over a real connection: broken off, resumed, refused, spoilt."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.hub import Hub, open_hub
from upres.errors import DiskFull, DownloadFailed
from upres.supply import fetch
from upres.supply.fetch import ATTEMPTS, Fetcher, SourceRefused

CONTENT = random.Random(0).randbytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PATH = "/numz/SeedVR2_comfyUI/resolve/main/weights.safetensors"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with open_hub() as hub:
        hub.files[PATH] = CONTENT
        yield hub


@pytest.fixture
def fetcher() -> Iterator[Fetcher]:
    with httpx.Client() as client:
        yield Fetcher(client, lambda doing, done, total: None, pause=lambda seconds: None)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "weights.safetensors"


def part_of(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def test_a_file_arrives_whole_under_its_name_and_no_part_is_left(hub: Hub, fetcher: Fetcher, target: Path) -> None:
    assert fetcher.fetch(hub.url + PATH, target, SHA256) == SHA256
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_a_connection_that_breaks_is_resumed_where_it_broke(hub: Hub, fetcher: Fetcher, target: Path) -> None:
    hub.faults = [70_000, 100_000]
    fetcher.fetch(hub.url + PATH, target, SHA256)
    assert target.read_bytes() == CONTENT
    assert [wanted for _, wanted in hub.asked] == ["", "bytes=70000-", "bytes=170000-"]


def test_a_part_left_by_an_earlier_run_is_gone_on_with(hub: Hub, fetcher: Fetcher, target: Path) -> None:
    part_of(target).write_bytes(CONTENT[:12_345])
    fetcher.fetch(hub.url + PATH, target, SHA256)
    assert target.read_bytes() == CONTENT
    assert hub.asked == [(PATH, "bytes=12345-")]


def test_a_part_that_only_wanted_its_name_is_not_fetched_again(hub: Hub, fetcher: Fetcher, target: Path) -> None:
    part_of(target).write_bytes(CONTENT)
    fetcher.fetch(hub.url + PATH, target, SHA256)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("left", [b"of another file" * 100, CONTENT + b"and more"])
def test_a_part_of_another_file_is_begun_anew(hub: Hub, fetcher: Fetcher, target: Path, left: bytes) -> None:
    part_of(target).write_bytes(left)
    fetcher.fetch(hub.url + PATH, target, SHA256)
    assert target.read_bytes() == CONTENT


def test_a_server_without_ranges_is_asked_for_the_whole(hub: Hub, fetcher: Fetcher, target: Path) -> None:
    hub.takes_ranges, hub.faults = False, [70_000]
    fetcher.fetch(hub.url + PATH, target, SHA256)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again_later_and_later(hub: Hub, target: Path, status: int) -> None:
    hub.faults = [status] * 3
    pauses: list[float] = []
    with httpx.Client() as client:
        Fetcher(client, lambda *_: None, pause=pauses.append).fetch(hub.url + PATH, target, SHA256)
    assert target.read_bytes() == CONTENT
    assert pauses == sorted(pauses) and pauses[0] < pauses[-1]


def test_a_server_that_stays_away_is_given_up_and_what_came_is_kept(hub: Hub, fetcher: Fetcher, target: Path) -> None:
    hub.faults = [70_000, *[503] * ATTEMPTS]
    with pytest.raises(DownloadFailed, match=r"503; check the network .* it goes on where it stopped"):
        fetcher.fetch(hub.url + PATH, target, SHA256)
    assert not target.exists()
    assert part_of(target).read_bytes() == CONTENT[:70_000]


def test_a_spoilt_file_never_gets_its_name_and_both_checksums_are_told(
    hub: Hub, fetcher: Fetcher, target: Path
) -> None:
    hub.files[PATH] = CONTENT[:-1] + b"?"
    with pytest.raises(SourceRefused, match=f"{SHA256} was promised; ask another mirror"):
        fetcher.fetch(hub.url + PATH, target, SHA256)
    assert list(target.parent.iterdir()) == []


def test_where_no_checksum_is_published_the_hubs_own_is_believed(hub: Hub, fetcher: Fetcher, target: Path) -> None:
    assert fetcher.fetch(hub.url + PATH, target, None) == SHA256
    hub.tells_sha256 = False
    assert fetcher.fetch(hub.url + PATH, target, None) == SHA256

    other = target.with_name("other")
    hub.tells_sha256, hub.faults = True, [70_000]
    part_of(other).write_bytes(b"?")
    assert fetcher.fetch(hub.url + PATH, other, None) == SHA256, "a part of another file is noticed by it"


@pytest.mark.parametrize(("status", "remedy"), [(403, "HF_ENDPOINT"), (404, "upres import")])
def test_a_refusal_is_not_asked_again_and_says_what_to_do(
    hub: Hub, fetcher: Fetcher, target: Path, status: int, remedy: str
) -> None:
    hub.faults = [status]
    with pytest.raises(SourceRefused, match=f"answered {status}; .*{remedy}"):
        fetcher.fetch(hub.url + PATH, target, SHA256)
    assert len(hub.asked) == 1


def test_a_file_that_does_not_fit_the_disk_is_not_begun(
    hub: Hub, fetcher: Fetcher, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = fetch.shutil.disk_usage(target.parent)
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda path: usage._replace(free=len(CONTENT) - 1))
    with pytest.raises(DiskFull, match="MODEL_DIR"):
        fetcher.fetch(hub.url + PATH, target, SHA256)
    assert list(target.parent.iterdir()) == []


def test_progress_counts_up_to_the_whole_also_when_resumed(hub: Hub, target: Path) -> None:
    hub.faults = [70_000]
    told: list[tuple[str, int, int]] = []
    with httpx.Client() as client:
        Fetcher(client, lambda *step: told.append(step), pause=lambda _: None).fetch(hub.url + PATH, target, SHA256)
    fetched = [done for doing, done, _ in told if doing == "fetching"]
    assert fetched == sorted(fetched) and fetched[-1] == len(CONTENT)
    assert {total for _, _, total in told} == {len(CONTENT)}
    assert told[-1] == ("checking", len(CONTENT), len(CONTENT))
