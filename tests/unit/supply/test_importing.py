"""A weights file at hand, recognised by what is in it, into the model directory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.seedvr2_tiny import TEXT, VAE, random_weights, text_embedding, write_dit, write_vae
from tests.support import make_settings
from upres.catalog import Catalog
from upres.errors import FileMissing, InvalidParameter, WeightsInvalid
from upres.settings import Settings
from upres.supply.importing import Imported, import_file


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return make_settings(tmp_path / "data")


def take(path: Path, settings: Settings, wanted: str | None = None) -> Imported:
    (imported,) = import_file(path, settings, lambda *_: None, wanted=wanted)
    return imported


@pytest.mark.usefixtures("no_process")
@pytest.mark.parametrize(
    ("made_as", "called", "found"),
    [
        ("a_fp8.safetensors", "seedvr2_ema_3b_fp16.safetensors", "seedvr2_ema_3b_fp8_e4m3fn.safetensors"),
        ("a_7b_fp16.safetensors", "3b", "seedvr2_ema_7b_fp16.safetensors"),
        ("a_7b.gguf", "my SHARP one.safetensors", "seedvr2_ema_7b_sharp-Q8_0.gguf"),
    ],
)
def test_a_transformer_gets_the_name_of_its_content_whatever_it_was_called(
    made_as: str, called: str, found: str, tmp_path: Path, settings: Settings
) -> None:
    source = write_dit(tmp_path / made_as, "7b" if "7b" in made_as else "3b").rename(tmp_path / called)
    imported = take(source, settings)
    assert imported.path == settings.model_dir / found
    assert imported.path.read_bytes() == source.read_bytes()
    assert (imported.models, imported.missing) == ((found,), (VAE, TEXT))


@pytest.mark.usefixtures("no_process")
def test_a_whole_set_taken_in_one_by_one_is_installed(tmp_path: Path, settings: Settings) -> None:
    torch.save(text_embedding(), tmp_path / "embedding")
    for source in (write_dit(tmp_path / "a", "3b"), write_vae(tmp_path / "b"), tmp_path / "embedding"):
        imported = take(source, settings)
    assert imported.how == "converted"
    assert torch.equal(load_file(settings.model_dir / TEXT)["pos_emb"], text_embedding())
    assert Catalog(settings.model_dir).installed_names() == ["seedvr2_ema_3b_fp16.safetensors", "compact"]


def test_a_file_on_the_same_disk_is_linked_and_one_given_by_a_link_is_followed(
    tmp_path: Path, settings: Settings
) -> None:
    source = write_vae(tmp_path / "blob")
    (tmp_path / "link").symlink_to(source)
    imported = take(tmp_path / "link", settings)
    assert imported.how == "linked"
    assert imported.path.samefile(source) and not imported.path.is_symlink()
    assert take(source, settings).how == "is there already"


@pytest.mark.usefixtures("no_process")
def test_a_file_that_cannot_be_linked_is_copied(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def another_disk(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", another_disk)
    source = write_vae(tmp_path / "vae")
    imported = take(source, settings)
    assert imported.how == "copied"
    assert imported.path.read_bytes() == source.read_bytes()
    assert [path.name for path in settings.model_dir.iterdir()] == [VAE]


@pytest.mark.usefixtures("no_process")
def test_another_file_of_the_name_is_not_replaced(tmp_path: Path, settings: Settings) -> None:
    settings.model_dir.mkdir(parents=True)
    (settings.model_dir / VAE).write_bytes(b"mine")
    with pytest.raises(InvalidParameter, match=f"{VAE} exists; remove it first"):
        take(write_vae(tmp_path / "vae"), settings)
    assert (settings.model_dir / VAE).read_bytes() == b"mine"


@pytest.mark.usefixtures("no_process")
def test_the_sharp_one_can_be_named_and_no_name_that_does_not_fit(tmp_path: Path, settings: Settings) -> None:
    source = write_dit(tmp_path / "a_fp16.safetensors", "7b")
    with pytest.raises(InvalidParameter, match=r"it can be seedvr2_ema_7b_fp16.safetensors or seedvr2_ema_7b_sharp_fp"):
        take(source, settings, "seedvr2_ema_3b_fp16.safetensors")
    sharp = "seedvr2_ema_7b_sharp_fp16.safetensors"
    assert take(source, settings, sharp).path.name == sharp


@pytest.mark.usefixtures("no_process")
def test_a_file_with_keys_missing_or_cut_short_or_of_no_model_is_refused(tmp_path: Path, settings: Settings) -> None:
    weights = random_weights("3b")
    del weights["txt_in.bias"]
    save_file(weights, tmp_path / "lacking")
    (tmp_path / "cut").write_bytes(write_vae(tmp_path / "vae").read_bytes()[:-9])
    save_file({"a": torch.zeros(1)}, tmp_path / "stranger")
    torch.save({"a": torch.zeros(1)}, tmp_path / "pickle")
    for name, said in {
        "lacking": "1 missing keys, first txt_in.bias", "cut": "cut: .*",
        "stranger": "none of SeedVR2's or FlashVSR's files: 1 keys",
        "pickle": "none of SeedVR2's or FlashVSR's files: 1 keys, first a",
    }.items():  # fmt: skip
        with pytest.raises(WeightsInvalid, match=said):
            take(tmp_path / name, settings)
    assert not settings.model_dir.exists()


@pytest.mark.usefixtures("no_process")
def test_a_transformer_stored_in_a_type_the_catalogue_has_no_name_for_is_refused(
    tmp_path: Path, settings: Settings
) -> None:
    save_file({name: value.bfloat16() for name, value in random_weights("3b").items()}, tmp_path / "bf16")
    with pytest.raises(WeightsInvalid, match="stored mostly as BF16; the catalogue has it as F16, F8_E4M3, Q4_K, Q8_0"):
        take(tmp_path / "bf16", settings)


def test_a_path_that_is_no_file_is_said_to_be_none(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(FileMissing, match="is no file"):
        take(tmp_path, settings)


def test_the_process_that_reads_a_strangers_weights_is_told_no_secret(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    tells = "import os\nopen(os.environ['HOME'] + '/told', 'w').write(repr([*os.environ]))"
    (tmp_path / "sitecustomize.py").write_text(tells)  # every Python reads it when it starts
    for name, value in {"HF_TOKEN": "secret", "HOME": str(tmp_path), "PYTHONPATH": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    take(write_vae(tmp_path / "vae"), settings)
    told = (tmp_path / "told").read_text()
    assert "'PATH'" in told and "HF_TOKEN" not in told and "UPRES" not in told
