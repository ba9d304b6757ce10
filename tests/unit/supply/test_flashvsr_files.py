"""FlashVSR's files from a hub and from files at hand: pickles, files of several parts, versions that nothing tells."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.flashvsr_tiny import dit, projection, prompt, tiny_decoder, wan_with_encoder
from tests.hub import open_hub
from tests.support import make_settings
from upres.catalog import Catalog
from upres.catalog.flashvsr import FLASHVSR_PROMPT, FLASHVSR_VAE, flashvsr_file
from upres.errors import InvalidParameter
from upres.settings import Settings
from upres.sources import SOURCES, Source
from upres.supply.download import download
from upres.supply.importing import Imported, import_file
from upres.supply.naming import name_of

HUB_FILES = "/JunhaoZhuang/FlashVSR-v1.1/resolve/main/"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return make_settings(tmp_path / "data")


def take(path: Path, settings: Settings, wanted: str | None = None) -> tuple[Imported, ...]:
    return import_file(path, settings, lambda *_: None, wanted=wanted)


def pickled(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


def test_a_download_leaves_no_pickle(tmp_path: Path) -> None:
    save_file(dit().state_dict(), tmp_path / "dit")
    content = {
        "diffusion_pytorch_model_streaming_dmd.safetensors": tmp_path / "dit",
        "LQ_proj_in.ckpt": pickled(tmp_path / "lq", projection().state_dict()),
        "TCDecoder.ckpt": pickled(tmp_path / "tcd", tiny_decoder().state_dict()),
        "posi_prompt.pth": pickled(tmp_path / "prompt", prompt()),
    }
    with open_hub() as hub:
        hub.files |= {HUB_FILES + name: path.read_bytes() for name, path in content.items()}
        settings = make_settings(tmp_path / "data", HF_ENDPOINT=hub.url)
        prompts = (f"{hub.url}/nowhere", f"{hub.url}{HUB_FILES}posi_prompt.pth")
        sources = {**SOURCES, FLASHVSR_PROMPT: Source(FLASHVSR_PROMPT, prompts, pickle=True)}
        list(download("flashvsr-v1.1-tiny-long", settings, lambda *_: None, sources))
    assert Catalog(settings.model_dir).installed_names() == [
        "flashvsr-v1.1-tiny-long", "flashvsr-v1.1-tiny", "compact"]  # fmt: skip
    assert {path.suffix for path in settings.model_dir.iterdir() if path.name[0] != "."} == {".safetensors"}
    assert torch.equal(load_file(settings.model_dir / FLASHVSR_PROMPT)["context"], prompt())


@pytest.mark.parametrize(
    ("place", "wanted", "version"),
    [("FlashVSR-v1.1/LQ_proj_in.ckpt", None, "v1.1"), ("models--x--FlashVSR-v1.1/blobs/0a1b", None, "v1.1"),
     ("FlashVSR1_1.safetensors", None, "v1.1"), ("FlashVSR_v1/LQ_proj_in.ckpt", None, "v1"),
     ("FlashVSR/LQ.ckpt", "flashvsr-v1-full", "v1"),
     ("FlashVSR-v1.1/LQ.ckpt", "flashvsr_v1_lq_proj.safetensors", "v1")],
)  # fmt: skip
def test_the_version_is_what_is_asked_for_or_what_the_path_says(place: str, wanted: str | None, version: str) -> None:
    name = name_of(Path("/models") / place, "lq_proj", "BF16", wanted, lambda *_: None)
    assert name == flashvsr_file(version, "lq_proj")


def test_where_nothing_says_the_version_it_is_asked_for_and_no_other_name_is_taken() -> None:
    path = Path("/models/FlashVSR/TCDecoder.ckpt")
    with pytest.raises(InvalidParameter) as caught:
        name_of(path, "tcdecoder", "F32", None, lambda *_: None)
    assert caught.value.remedy == "say it with --as flashvsr-v1.1-tiny-long or flashvsr-v1-tiny-long"
    with pytest.raises(InvalidParameter, match="cannot be flashvsr-v2"):
        name_of(path, "tcdecoder", "F32", "flashvsr-v2", lambda *_: None)


def test_parts_without_versions_have_one_name_whichever_model_they_are_taken_for() -> None:
    for part, name in (("prompt", FLASHVSR_PROMPT), ("wan_vae", FLASHVSR_VAE)):
        assert name_of(Path("/a"), part, "BF16", "flashvsr-v1-full", lambda *_: None) == name


@pytest.mark.usefixtures("no_process")
def test_a_file_of_several_parts_becomes_one_file_for_each(tmp_path: Path, settings: Settings) -> None:
    together = {
        **dit().state_dict(), **{f"lq_proj_in.{k}": v for k, v in projection().state_dict().items()},
        **{f"tc_decoder.{k}": v for k, v in tiny_decoder().state_dict().items()}, "positive_conditioning": prompt(),
    }  # fmt: skip
    save_file(together, tmp_path / "flashvsr-v1.1.safetensors")
    taken = take(tmp_path / "flashvsr-v1.1.safetensors", settings)
    assert {part.path.name for part in taken} == {
        *(flashvsr_file("v1.1", part) for part in ("dit", "lq_proj", "tcdecoder")), FLASHVSR_PROMPT}  # fmt: skip
    assert Catalog(settings.model_dir).find("flashvsr-v1.1-tiny-long").architecture == "flashvsr"
    assert not any(part.missing for part in taken)
    with pytest.raises(InvalidParameter, match="exists; remove it first"):
        take(tmp_path / "flashvsr-v1.1.safetensors", settings)


@pytest.mark.usefixtures("no_process")
def test_a_file_of_one_part_is_linked_and_tells_what_its_model_lacks(tmp_path: Path, settings: Settings) -> None:
    save_file(dit().state_dict(), tmp_path / "dit_v1.1.safetensors")
    (imported,) = take(tmp_path / "dit_v1.1.safetensors", settings)
    assert imported.how == "linked" and imported.models[0] == "flashvsr-v1.1-tiny-long"
    assert imported.missing == (flashvsr_file("v1.1", "lq_proj"), FLASHVSR_PROMPT, flashvsr_file("v1.1", "tcdecoder"))
    save_file(wan_with_encoder(), tmp_path / "vae.safetensors")
    (vae,) = take(tmp_path / "vae.safetensors", settings)
    assert (vae.path.name, vae.how, vae.missing) == (FLASHVSR_VAE, "linked", ())
