"""Which of FlashVSR's parts a file holds; files that are damaged, foreign or of another model; published sizes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.flashvsr_tiny import DIT, LQ, TINY, WAN, dit, projection, prompt, tiny_decoder, wan_decoder, wan_with_encoder
from upres.errors import FileMissing, WeightsInvalid
from upres.models.flashvsr.checkpoint import (
    Kind,
    dit_config,
    find_parts,
    load_dit,
    load_projection,
    load_prompt,
    load_tiny,
    load_wan,
    lq_config,
    tiny_config,
    wan_config,
)
from upres.models.flashvsr.decoder import DecoderConfig, TinyDecoder
from upres.models.flashvsr.dit import Dit, DitConfig
from upres.models.flashvsr.lq_projection import LqConfig, LqProjection
from upres.models.flashvsr.restorer import load_v1_1_tiny
from upres.models.flashvsr.wan_vae import WanConfig, WanDecoder

CPU = torch.device("cpu")


def shapes_of(net: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}


def fingerprint(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """As DiffSynth recognises checkpoints: of every key alone and with its shape, sorted."""
    words = [word for key, shape in shapes.items() for word in (key, f"{key}:{'_'.join(map(str, shape))}")]
    return hashlib.md5(",".join(sorted(words)).encode()).hexdigest()


@pytest.mark.parametrize(
    ("make", "keys", "parameters", "md5"),
    [
        (lambda: Dit(DitConfig()), 825, 1_418_996_800, "9269f8db9040a9d860eaca435be61814"),
        (lambda: LqProjection(LqConfig(), causal=True), 8, 287_845_888, "3eb26d719e741214f0a9dd74c6e58378"),
        (lambda: TinyDecoder(DecoderConfig()), 66, 45_338_371, "4c3523c69fb7b24cf2db147a715b277f"),
        # the published file, ccc42284ea13e1ad04693284c7a09be6, without encoder.* and conv1.*
        (lambda: WanDecoder(WanConfig()), 108, 73_295_603, "ba4bc6deb187772a8c8a733ff505852c"),
    ],
    ids=["transformer", "projection", "tiny decoder", "Wan's decoder"],
)
def test_every_key_and_shape_is_that_of_the_published_file(
    make: Callable[[], nn.Module], keys: int, parameters: int, md5: str
) -> None:
    with torch.device("meta"):
        net = make()
    shapes = shapes_of(net)
    assert (len(shapes), sum(p.numel() for p in net.parameters())) == (keys, parameters)
    assert fingerprint(shapes) == md5


def test_sizes_are_read_off_the_shapes() -> None:
    assert dit_config(shapes_of(dit())) == DIT
    assert lq_config(shapes_of(projection())) == LQ
    assert tiny_config(shapes_of(tiny_decoder())) == TINY
    assert wan_config(shapes_of(wan_decoder())) == WAN
    with torch.device("meta"):
        assert dit_config(shapes_of(Dit(DitConfig()))) == DitConfig()


def test_parts_are_found_in_files_of_their_own_and_together_under_their_publishers_names() -> None:
    alone = {Kind.DIT: dit(), Kind.LQ: projection(), Kind.TINY: tiny_decoder(), Kind.WAN: wan_decoder()}
    for kind, net in alone.items():
        assert find_parts(shapes_of(net)) == {kind: {name: name for name in net.state_dict()}}
        wrapped = {f"model.{name}": shape for name, shape in shapes_of(net).items()}
        assert find_parts(wrapped) == {kind: {name: f"model.{name}" for name in net.state_dict()}}
    assert set(find_parts({k: tuple(v.shape) for k, v in wan_with_encoder().items()})[Kind.WAN]) == set(
        wan_decoder().state_dict())  # fmt: skip
    together = {
        **shapes_of(dit()), **{f"lq_proj_in.{k}": v for k, v in shapes_of(projection()).items()},
        **{f"tc_decoder.{k}": v for k, v in shapes_of(tiny_decoder()).items()}, "positive_conditioning": (1, 5, 16),
    }  # fmt: skip
    assert {kind: len(names) for kind, names in find_parts(together).items()} == {
        Kind.DIT: len(shapes_of(dit())), Kind.LQ: 8, Kind.TINY: 66, Kind.PROMPT: 1,
    }  # fmt: skip
    assert find_parts({"img_in.weight": (4, 4)}) == {}


def write(path: Path, tensors: Mapping[str, Tensor]) -> Path:
    save_file(dict(tensors), path)
    return path


def test_weights_come_out_as_they_went_in_and_in_the_type_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "a", dit().state_dict())
    loaded = load_dit(path, CPU, torch.bfloat16)
    assert {tensor.dtype for tensor in loaded.state_dict().values()} == {torch.bfloat16}
    for name, tensor in load_dit(path, CPU, torch.float32).state_dict().items():
        assert torch.equal(tensor, dit().state_dict()[name])


def test_a_prompt_may_have_an_axis_of_batches(tmp_path: Path) -> None:
    for number, tensor in enumerate((prompt(), prompt()[0])):
        path = write(tmp_path / str(number), {"context": tensor})
        assert torch.equal(load_prompt(path, CPU, torch.bfloat16), prompt()[0])
    with pytest.raises(WeightsInvalid, match=r"the prompt has the shape \(2, 3, 4\)"):
        load_prompt(write(tmp_path / "two", {"context": torch.zeros(2, 3, 4)}), CPU, torch.float32)


@pytest.mark.parametrize(
    ("gone", "net", "load"),
    [("blocks.1.ffn.2.bias", dit, load_dit), ("patch_embedding.bias", dit, load_dit),
     ("linear_layers.0.bias", projection, lambda *a: load_projection(*a, causal=True)),
     ("decoder.26.bias", tiny_decoder, load_tiny), ("decoder.upsamples.3.time_conv.weight", wan_decoder, load_wan)],
)  # fmt: skip
def test_a_file_that_lacks_a_key_or_has_one_too_many_is_refused(
    tmp_path: Path, gone: str, net: Callable[[], nn.Module], load: Callable[..., nn.Module]
) -> None:
    weights = dict(net().state_dict())
    with pytest.raises(WeightsInvalid, match="1 unknown keys, first extra"):
        load(write(tmp_path / "more", {**weights, "extra": torch.zeros(1)}), CPU, torch.float32)
    del weights[gone]
    with pytest.raises(WeightsInvalid, match=f"missing keys, first {gone}"):
        load(write(tmp_path / "less", weights), CPU, torch.float32)


def test_another_part_or_another_models_file_is_called_by_its_name(tmp_path: Path) -> None:
    path = write(tmp_path / "x.safetensors", tiny_decoder().state_dict())
    with pytest.raises(WeightsInvalid, match=r"x.safetensors: this is a FlashVSR tiny decoder") as caught:
        load_dit(path, CPU, torch.float32)
    assert caught.value.remedy == "give a FlashVSR transformer"
    with pytest.raises(WeightsInvalid, match="none of FlashVSR's: 1 keys, first a"):
        load_tiny(write(tmp_path / "y", {"a": torch.zeros(1)}), CPU, torch.float32)


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "cut", projection().state_dict())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsInvalid, match="cut: "):
        load_projection(path, CPU, torch.float32, causal=True)


def test_parts_of_different_sizes_are_refused_together_and_a_missing_one_is_named(tmp_path: Path) -> None:
    files = (write(tmp_path / "dit", dit().state_dict()), write(tmp_path / "lq", projection().state_dict()),
             write(tmp_path / "prompt", {"context": torch.zeros(5, 17)}),
             write(tmp_path / "tcd", tiny_decoder().state_dict()))  # fmt: skip
    with pytest.raises(WeightsInvalid, match="prompt has 17 columns, its transformer takes 16"):
        load_v1_1_tiny(files, CPU)
    with pytest.raises(WeightsInvalid, match="four weights files, got 3"):
        load_v1_1_tiny(files[:3], CPU)
    files[1].unlink()
    with pytest.raises(FileMissing, match="lq: no such weights file"):
        load_v1_1_tiny(files, CPU)
