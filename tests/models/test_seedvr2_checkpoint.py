"""Which of SeedVR2's models a file is, and files of full size loaded onto their configurations."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path

import pytest
import torch

from tests.seedvr2_recorded import TINY
from upres.errors import WeightsInvalid
from upres.models.seedvr2.checkpoint import Kind, dit_config, load_dit, load_vae, recognise, vae_config
from upres.models.seedvr2.config import SEEDVR2_3B, SEEDVR2_7B, SEEDVR2_VAE, DitConfig, VaeConfig
from upres.models.seedvr2.dit import Dit
from upres.models.seedvr2.vae import VideoVae

CPU = torch.device("cpu")


def shapes_of(config: DitConfig | VaeConfig) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        model = Dit(config) if isinstance(config, DitConfig) else VideoVae(config)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def test_each_kind_of_file_is_recognised_by_its_keys_and_shapes() -> None:
    assert recognise(shapes_of(SEEDVR2_3B)) == Kind.DIT_3B
    assert recognise(shapes_of(SEEDVR2_7B)) == Kind.DIT_7B
    assert recognise(shapes_of(SEEDVR2_VAE)) == Kind.VAE
    assert recognise(shapes_of(TINY["3b"])) == Kind.DIT_3B
    assert recognise(shapes_of(TINY["7b"])) == Kind.DIT_7B
    assert recognise({"pos_emb": (58, 5120)}) == Kind.TEXT
    assert recognise({"encoder.conv_in.weight": (128, 3, 3, 3)}) is None, "an autoencoder of images"
    assert recognise({"img_in.weight": (4, 4)}) is None


@pytest.mark.parametrize("config", [SEEDVR2_3B, SEEDVR2_7B, *TINY.values()])
def test_a_transformers_configuration_is_read_off_its_shapes(config: DitConfig) -> None:
    shapes = shapes_of(config)
    kind = recognise(shapes)
    assert kind is not None and dit_config(shapes, kind) == config


@pytest.mark.parametrize("config", [SEEDVR2_VAE, VaeConfig((8, 16, 24, 24), norm_groups=2)])
def test_an_autoencoders_configuration_is_read_off_its_shapes(config: VaeConfig) -> None:
    assert vae_config(shapes_of(config)) == config


@pytest.mark.parametrize("gone", ["blocks.31.", "vid_in.", "txt_in.", "blocks.0.attn.norm_q.", "vid_out_ada."])
def test_a_file_of_published_size_is_held_to_its_configuration_whatever_is_missing(gone: str, tmp_path: Path) -> None:
    shapes = {name: shape for name, shape in shapes_of(SEEDVR2_3B).items() if not name.startswith(gone)}
    with pytest.raises(WeightsInvalid, match=rf"missing keys, first {re.escape(gone)}"):
        load_dit(sparse_safetensors(tmp_path / "3b", shapes), CPU, torch.float16)


def test_a_7b_file_named_as_a_3b_is_called_by_its_name(tmp_path: Path) -> None:
    path = sparse_safetensors(tmp_path / "seedvr2_ema_3b_fp16.safetensors", shapes_of(SEEDVR2_7B))
    with pytest.raises(WeightsInvalid, match=r"3b_fp16.safetensors: this is a SeedVR2 7B transformer") as caught:
        load_dit(path, CPU, torch.float16, Kind.DIT_3B)
    assert caught.value.remedy == "give a SeedVR2 3B transformer"


def sparse_safetensors(path: Path, shapes: dict[str, tuple[int, ...]], wide: str = "") -> Path:
    """A half-precision file of full size, all zeros, that takes no room on the disk. `wide` is a key of 32 bits."""
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + (4 if name == wide else 2) * torch.Size(shape).numel()
        header[name] = {"dtype": "F32" if name == wide else "F16", "shape": shape, "data_offsets": (start, end)}
    text = json.dumps(header).encode()
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        stream.truncate(8 + len(text) + end)
    return path


def test_a_transformer_of_full_size_loads_onto_its_recognised_configuration(tmp_path: Path) -> None:
    path = sparse_safetensors(tmp_path / "any name", shapes_of(SEEDVR2_3B), wide="txt_in.bias")
    dit = load_dit(path, CPU, torch.float16)
    assert dit.config == SEEDVR2_3B
    assert {tensor.device for tensor in dit.state_dict().values()} == {CPU}
    assert dit.txt_in.bias.dtype == torch.float16, "a wider weight than is computed with is rounded once, at load"


def test_a_vae_of_full_size_loads_in_the_type_asked_for(tmp_path: Path) -> None:
    vae = load_vae(sparse_safetensors(tmp_path / "any name", shapes_of(SEEDVR2_VAE)), CPU, torch.bfloat16)
    assert {(tensor.device, tensor.dtype) for tensor in vae.state_dict().values()} == {(CPU, torch.bfloat16)}


def test_a_vae_given_for_a_transformer_is_called_by_its_name(tmp_path: Path) -> None:
    path = sparse_safetensors(tmp_path / "ema.safetensors", shapes_of(SEEDVR2_VAE))
    with pytest.raises(WeightsInvalid, match=r"ema.safetensors: this is a SeedVR2 VAE") as caught:
        load_dit(path, CPU, torch.float32)
    assert caught.value.remedy == "give a SeedVR2 3B transformer or SeedVR2 7B transformer"


def test_a_stranger_given_for_a_transformer_is_described(tmp_path: Path) -> None:
    path = sparse_safetensors(tmp_path / "flux.safetensors", {"img_in.weight": (4, 4)})
    with pytest.raises(WeightsInvalid, match=r"none of SeedVR2's models: 1 keys, first img_in.weight"):
        load_dit(path, CPU, torch.float32)
