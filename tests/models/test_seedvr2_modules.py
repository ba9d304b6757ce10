"""The networks as modules: loaded from single files, saved to folders and loaded from them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.seedvr2_recorded import TINY, run_dit, tensors
from tests.seedvr2_tiny import write_dit, write_vae
from upres.errors import FileMissing, WeightsInvalid
from upres.models.seedvr2.config import TINY_VAE
from upres.models.seedvr2.modules import SeedVr2Autoencoder, SeedVr2Transformer

pytestmark = pytest.mark.usefixtures("small_tensors")


@pytest.mark.parametrize("name", ["3b_fp16.safetensors", "3b_fp8.safetensors", "7b-Q8_0.gguf"])
def test_a_transformer_saved_and_loaded_computes_as_the_file_it_came_from(name: str, tmp_path: Path) -> None:
    size = name[:2]
    dit = SeedVr2Transformer.from_single_file(write_dit(tmp_path / name, size))
    dit.save_pretrained(tmp_path / "folder")
    again = SeedVr2Transformer.from_pretrained(tmp_path / "folder")
    assert type(again) is SeedVr2Transformer and again.config == dit.config == TINY[size]
    given = tensors(f"dit_{size}_tiny_small_detail")
    ours, theirs = run_dit(dit, given), run_dit(again, given)
    if "Q8_0" in name:  # float16 holds their products to the last bit but one
        torch.testing.assert_close(theirs, ours, atol=2e-2, rtol=0)
    else:
        assert torch.equal(theirs, ours)


def test_an_autoencoder_saved_and_loaded_is_the_same(tmp_path: Path) -> None:
    vae = SeedVr2Autoencoder.from_single_file(str(write_vae(tmp_path / "vae.safetensors")))
    vae.save_pretrained(tmp_path / "folder")
    again = SeedVr2Autoencoder.from_pretrained(tmp_path / "folder")
    assert again.config == vae.config and again.config.channels == TINY_VAE.channels
    assert all(torch.equal(a, b) for a, b in zip(vae.state_dict().values(), again.state_dict().values(), strict=True))


def test_a_folder_whose_parts_do_not_belong_together_is_refused(tmp_path: Path) -> None:
    SeedVr2Transformer.from_single_file(write_dit(tmp_path / "3b.safetensors", "3b")).save_pretrained(tmp_path)
    facts = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**facts, "layers": 7}))
    with pytest.raises(WeightsInvalid, match=r"model.safetensors: .* missing keys, first blocks\.6\."):
        SeedVr2Transformer.from_pretrained(tmp_path)
    with pytest.raises(WeightsInvalid, match=r"config.json is of SeedVr2Transformer and says .*SeedVr2A"):
        SeedVr2Autoencoder.from_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(FileMissing, match=r"config.json: no such file; give a folder of save_pretrained"):
        SeedVr2Transformer.from_pretrained(tmp_path)
