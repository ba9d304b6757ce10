"""FlashVSR's files from a hub and from files at hand: pickles, files of several parts, versions that nothing tells."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from flashvsr_tiny import dit, projection, prompt, tiny_decoder, wan_decoder, wan_with_encoder
from hub import open_hub
from support import make_settings
from upres.catalog import Catalog
from upres.catalog.flashvsr import FLASHVSR_PROMPT, FLASHVSR_VAE, flashvsr_file
from upres.errors import InvalidParameter, WeightsInvalid
from upres.settings import Settings
from upres.sources import SOURCES, Source
from upres.supply.download import download
from upres.supply.importing import Imported, import_file

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


def test_a_download_leaves_no_pickle_and_no_encoder(tmp_path: Path) -> None:
    save_file(dit().state_dict(), tmp_path / "dit")
    content = {
        "diffusion_pytorch_model_streaming_dmd.safetensors": tmp_path / "dit",
        "LQ_proj_in.ckpt": pickled(tmp_path / "lq", projection().state_dict()),
        "TCDecoder.ckpt": pickled(tmp_path / "tcd", tiny_decoder().state_dict()),
        "Wan2.1_VAE.pth": pickled(tmp_path / "vae", {"model_state": wan_with_encoder()}),
        "posi_prompt.pth": pickled(tmp_path / "prompt", prompt()),
    }
    with open_hub() as hub:
        hub.files |= {HUB_FILES + name: path.read_bytes() for name, path in content.items()}
        settings = make_settings(tmp_path / "data", HF_ENDPOINT=hub.url)
        prompts = (f"{hub.url}/nowhere", f"{hub.url}{HUB_FILES}posi_prompt.pth")
        sources = {**SOURCES, FLASHVSR_PROMPT: Source(FLASHVSR_PROMPT, prompts, pickle=True)}
        for name in ("flashvsr-v1.1-tiny-long", "flashvsr-v1.1-full"):
            list(download(name, settings, lambda *_: None, sources))
    assert Catalog(settings.model_dir).installed_names() == [
        "flashvsr-v1.1-tiny-long", "flashvsr-v1.1-tiny", "flashvsr-v1.1-full", "compact"]  # fmt: skip
    assert {path.suffix for path in settings.model_dir.iterdir() if path.name[0] != "."} == {".safetensors"}
    assert load_file(settings.model_dir / FLASHVSR_VAE).keys() == wan_decoder().state_dict().keys()
    assert torch.equal(load_file(settings.model_dir / FLASHVSR_PROMPT)["context"], prompt())


@pytest.mark.parametrize(
    ("place", "wanted", "version"),
    [("FlashVSR-v1.1/LQ_proj_in.ckpt", None, "v1.1"), ("models--x--FlashVSR-v1.1/blobs/0a1b", None, "v1.1"),
     ("FlashVSR1_1.ckpt", None, "v1.1"), ("FlashVSR_v1/LQ_proj_in.ckpt", None, "v1"),
     ("FlashVSR/LQ.ckpt", "flashvsr-v1-full", "v1"),
     ("FlashVSR-v1.1/LQ.ckpt", "flashvsr_v1_lq_proj.safetensors", "v1")],
)  # fmt: skip
def test_the_version_is_what_is_asked_for_or_what_the_path_says(
    tmp_path: Path, settings: Settings, place: str, wanted: str | None, version: str
) -> None:
    (imported,) = take(pickled(tmp_path / place, projection().state_dict()), settings, wanted)
    assert (imported.path.name, imported.how) == (flashvsr_file(version, "lq_proj"), "converted")
    assert torch.equal(load_file(imported.path)["conv1.weight"], projection().conv1.weight)


def test_where_nothing_says_the_version_it_is_asked_for_and_no_other_name_is_taken(
    tmp_path: Path, settings: Settings
) -> None:
    path = pickled(tmp_path / "FlashVSR" / "TCDecoder.ckpt", tiny_decoder().state_dict())
    with pytest.raises(InvalidParameter, match=r"say it with --as flashvsr-v1\.1-tiny-long or flashvsr-v1-tiny-long"):
        take(path, settings)
    with pytest.raises(InvalidParameter, match=r"cannot be flashvsr-v2; it can be flashvsr_v1\.1_tcdecoder"):
        take(path, settings, "flashvsr-v2")
    assert not settings.model_dir.exists()


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


def test_a_file_of_one_part_is_linked_and_tells_what_its_model_lacks(tmp_path: Path, settings: Settings) -> None:
    save_file(dit().state_dict(), tmp_path / "dit_v1.1.safetensors")
    (imported,) = take(tmp_path / "dit_v1.1.safetensors", settings)
    assert imported.how == "linked" and imported.models[0] == "flashvsr-v1.1-tiny-long"
    assert imported.missing == (flashvsr_file("v1.1", "lq_proj"), FLASHVSR_PROMPT, flashvsr_file("v1.1", "tcdecoder"))
    save_file(wan_with_encoder(), tmp_path / "vae.safetensors")
    (vae,) = take(tmp_path / "vae.safetensors", settings)
    assert (vae.path.name, vae.how, vae.missing) == (FLASHVSR_VAE, "linked", ())


def test_pickles_that_hold_more_than_tensors_or_would_run_code_are_refused(tmp_path: Path, settings: Settings) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "it ran",)

    weights = dict(tiny_decoder().state_dict())
    lacking = {name: value for name, value in weights.items() if name != "decoder.26.bias"}
    for content, said in (
        ({"model": Evil()}, "no pickle of a tensor"),
        ({**weights, "epoch": 3}, "a pickle of dict, not of tensors alone"),
        (lacking, "1 missing keys, first decoder.26.bias"),
        (torch.zeros(2, 3, 4), r"the prompt has the shape \(2, 3, 4\)"),
    ):  # fmt: skip
        with pytest.raises(WeightsInvalid, match=said):
            take(pickled(tmp_path / "v1.1.ckpt", content), settings)
    assert not (tmp_path / "it ran").exists() and not settings.model_dir.exists()
