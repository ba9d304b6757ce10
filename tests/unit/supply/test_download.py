"""A model's files from a hub into the model directory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file

from tests.hub import Hub, open_hub
from tests.seedvr2_tiny import TEXT, VAE, text_embedding, write_dit, write_vae
from tests.support import make_settings
from upres.catalog import MODELS, Catalog
from upres.catalog.flashvsr import FLASHVSR_MODELS
from upres.catalog.seedvr2 import SEEDVR2_MODELS
from upres.errors import DownloadFailed, ModelNotFound, WeightsInvalid
from upres.settings import Settings
from upres.sources import SEEDVR2, SOURCES, Source
from upres.supply.download import download, downloadable

MODEL = "seedvr2_ema_3b_fp16.safetensors"


def path_of(url: str) -> str:
    return url.removeprefix("{hub}")


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """With a tiny model's files where the real ones are."""
    torch.save(text_embedding(), tmp_path / "pos_emb.pt")
    made = {MODEL: write_dit(tmp_path / MODEL, "3b"), VAE: write_vae(tmp_path / VAE), TEXT: tmp_path / "pos_emb.pt"}
    with open_hub() as hub:
        hub.files = {path_of(SOURCES[name].urls[0]): path.read_bytes() for name, path in made.items()}
        yield hub


@pytest.fixture
def sources(hub: Hub) -> dict[str, Source]:
    """The real ones, with the tiny files' checksums."""
    digests = {path: hashlib.sha256(content).hexdigest() for path, content in hub.files.items()}
    return {name: replace(SOURCES[name], sha256=digests[path_of(SOURCES[name].urls[0])]) for name in (MODEL, VAE, TEXT)}


@pytest.fixture
def settings(tmp_path: Path, hub: Hub) -> Settings:
    return make_settings(tmp_path / "data", HF_ENDPOINT=hub.url)


def run(settings: Settings, sources: dict[str, Source]) -> list[str]:
    return [fetched.how for fetched in download(MODEL, settings, lambda *_: None, sources)]


def test_every_file_of_every_model_that_is_not_embedded_has_a_source() -> None:
    assert {model.name for model in MODELS} - set(downloadable()) == {"compact"}
    assert {file for model in (*SEEDVR2_MODELS, *FLASHVSR_MODELS) for file in model.files} == set(SOURCES)
    assert len(SEEDVR2_MODELS) == 12
    unknown = {source.name for source in SEEDVR2 if source.sha256 is None}
    assert unknown == {"seedvr2_ema_7b-Q8_0.gguf", "seedvr2_ema_7b_sharp-Q8_0.gguf"}


def test_a_downloaded_model_is_installed_and_its_embedding_is_no_pickle_any_more(
    settings: Settings, sources: dict[str, Source]
) -> None:
    run(settings, sources)
    assert Catalog(settings.model_dir).default().name == MODEL
    assert torch.equal(load_file(settings.model_dir / TEXT)["pos_emb"], text_embedding())
    assert {path.name for path in settings.model_dir.iterdir() if path.name[0] != "."} == {MODEL, VAE, TEXT}


def test_files_that_are_there_are_checked_and_not_fetched_again(
    hub: Hub, settings: Settings, sources: dict[str, Source]
) -> None:
    run(settings, sources)
    asked = len(hub.asked)
    assert run(settings, sources) == ["is there and whole", "is there and whole", "is there"]
    assert len(hub.asked) == asked


def test_a_damaged_file_is_replaced_by_a_whole_one(hub: Hub, settings: Settings, sources: dict[str, Source]) -> None:
    run(settings, sources)
    path = settings.model_dir / MODEL
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    run(settings, sources)
    assert path.read_bytes() == whole


def test_where_one_source_refuses_the_next_is_asked(hub: Hub, settings: Settings, sources: dict[str, Source]) -> None:
    content = hub.files.pop(path_of(sources[TEXT].urls[0]))
    hub.files["/elsewhere/pos_emb.pt"] = content
    sources[TEXT] = replace(sources[TEXT], urls=(sources[TEXT].urls[0], f"{hub.url}/elsewhere/pos_emb.pt"))
    run(settings, sources)
    assert (settings.model_dir / TEXT).exists()


def test_where_all_sources_refuse_each_is_named(hub: Hub, settings: Settings, sources: dict[str, Source]) -> None:
    hub.files.clear()
    with pytest.raises(DownloadFailed, match=rf"{hub.url}/numz.*{MODEL}: the server answered 404; .*upres import"):
        run(settings, sources)


def test_a_pickle_that_would_run_code_is_refused_and_nothing_of_it_is_left(
    hub: Hub, settings: Settings, sources: dict[str, Source], tmp_path: Path
) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "it ran",)

    torch.save(Evil(), tmp_path / "evil.pt")
    path = path_of(sources[TEXT].urls[0])
    hub.files[path] = (tmp_path / "evil.pt").read_bytes()
    sources[TEXT] = replace(sources[TEXT], sha256=hashlib.sha256(hub.files[path]).hexdigest())
    with pytest.raises(WeightsInvalid, match="no pickle of a tensor"):
        run(settings, sources)
    assert not (tmp_path / "it ran").exists()
    assert not [path for path in settings.model_dir.iterdir() if "pos_emb" in path.name and path.name[0] != "."]


def test_two_downloads_of_one_file_do_not_mix(settings: Settings, sources: dict[str, Source]) -> None:
    settings.model_dir.mkdir(parents=True)
    with (
        FileLock(settings.model_dir / f".{MODEL}.lock"),
        pytest.raises(DownloadFailed, match=f"{MODEL} is being downloaded by another process"),
    ):
        run(settings, sources)


@pytest.mark.parametrize(("name", "said"), [("compact", "compact is embedded"), ("seedvr3", "no model 'seedvr3'")])
def test_what_cannot_be_downloaded_is_told_with_what_can(settings: Settings, name: str, said: str) -> None:
    with pytest.raises(ModelNotFound, match=f"{said}; can be downloaded: seedvr2_ema_3b_fp16.safetensors, "):
        list(download(name, settings, lambda *_: None))
