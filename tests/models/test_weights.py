"""Weights files of every kind, read by their content, into models that take all of it or nothing."""

from __future__ import annotations

import json
import re
import struct
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from gguf_writer import BF16, F16, Q4_K, plain, q8_0, write_gguf
from seedvr2_recorded import TINY, run_dit, tensors, tiny_dit
from upres.errors import FileMissing, WeightsInvalid
from upres.models.seedvr2.checkpoint import Kind, dit_config, load_dit, load_vae, recognise, vae_config
from upres.models.seedvr2.dit import SEEDVR2_3B, SEEDVR2_7B, Dit, DitConfig
from upres.models.seedvr2.vae import SEEDVR2_VAE, VaeConfig, VideoVae
from upres.models.weights import quantised
from upres.models.weights.assign import assign
from upres.models.weights.containers import open_weights
from upres.models.weights.file import Packed
from upres.models.weights.linear import Linear

CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def empty_dit() -> Dit:
    with torch.device("meta"):
        return Dit(TINY["3b"])


def loaded(path: Path) -> Dit:
    dit = empty_dit()
    assign(dit, open_weights(path), CPU)
    return dit


def quantisable(name: str, value: Tensor) -> bool:
    return value.ndim == 2 and value.shape[1] % 32 == 0 and name != "vid_in.proj.weight"


@pytest.fixture
def weights() -> dict[str, Tensor]:
    return tensors("dit_3b_tiny_weights")


@pytest.mark.parametrize(
    "block", [quantised.Q8_0, quantised.Q4_K, quantised.Q5_K, quantised.Q6_K], ids=lambda b: b.name
)
@pytest.mark.parametrize(("dtype", "name"), [(torch.float32, "fp32"), (torch.float16, "fp16math")])
def test_quantised_blocks_unpack_to_the_recorded_values(
    block: quantised.BlockType, dtype: torch.dtype, name: str
) -> None:
    given = tensors("gguf_dequant")
    packed = given[f"{block.name}.raw"].view(-1, block.bytes)
    values = quantised.Quantised(block, (6, 512)).unpack(packed, dtype)
    assert torch.equal(values, given[f"{block.name}.dequant_{name}"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_a_safetensors_file_loads_in_its_own_type(
    weights: dict[str, Tensor], dtype: torch.dtype, tmp_path: Path
) -> None:
    save_file({name: value.to(dtype) for name, value in weights.items()}, tmp_path / "w.safetensors")
    dit = loaded(tmp_path / "w.safetensors")
    state = dit.state_dict()
    assert set(state) == set(weights)
    assert all(
        state[name].dtype == dtype and torch.equal(state[name].float(), weights[name].to(dtype).float())
        for name in state
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.float8_e4m3fn])
def test_stored_half_and_eighth_precision_compute_what_their_widened_values_do(
    weights: dict[str, Tensor], dtype: torch.dtype, tmp_path: Path
) -> None:
    # published files mix types, from block to block and perhaps within one; frequencies are compared elsewhere
    wide_keys = ("freqs", ".5.", "blocks.0.ada.vid.attn_gate")
    small = {n: v if any(key in n for key in wide_keys) else v.to(dtype) for n, v in weights.items()}
    save_file(small, tmp_path / "mixed")
    save_file({name: value.float() for name, value in small.items()}, tmp_path / "wide")
    given = tensors("dit_3b_tiny_small_detail")
    with torch.inference_mode():
        mixed, wide = (run_dit(loaded(tmp_path / name), given) for name in ("mixed", "wide"))
    torch.testing.assert_close(mixed, wide, atol=2e-5, rtol=0)
    assert (mixed - given["out.vid_sample"]).abs().max() > 1e-3  # which is what the smaller types cost


def test_a_gguf_file_is_kept_packed_and_computes_what_its_unpacked_values_do(
    weights: dict[str, Tensor], tmp_path: Path
) -> None:
    packed = {n: q8_0(v) if quantisable(n, v) else plain(v) for n, v in weights.items()}
    dit = loaded(write_gguf(tmp_path / "model.safetensors", packed))  # a wrong name is no hindrance
    linears = [module for module in dit.modules() if isinstance(module, Linear) and module.quantised is not None]
    assert len(linears) == sum(quantisable(name, value) for name, value in weights.items())
    assert all(linear.weight.dtype == torch.uint8 for linear in linears)

    wide, given = tiny_dit("3b"), tensors("dit_3b_tiny_small_detail")
    for name, module in dit.named_modules():
        if isinstance(module, Linear):
            wide.get_submodule(name).weight.data = module.dense_weight(torch.float32)
    with torch.inference_mode():
        velocity = run_dit(dit, given)
        assert torch.equal(velocity, run_dit(wide, given))
    assert 0 < (velocity - given["out.vid_sample"]).abs().mean() < 0.02  # std 1.15: near the original, not equal


def test_gguf_tensors_may_be_prefixed_reshaped_and_of_each_plain_type(tmp_path: Path) -> None:
    blocks = tensors("gguf_dequant")
    raw = blocks["Q4_K.raw"].numpy().tobytes()
    values = torch.arange(6.0).view(2, 3)
    prefix = "model.diffusion_model."
    entries = {
        f"{prefix}cube": (Q4_K, (6, 512), raw),
        f"{prefix}half": (F16, (2, 3), plain(values.half())[2]),
        f"{prefix}brain": (BF16, (2, 3), plain(values.bfloat16())[2]),
        f"{prefix}single": plain(values),
    }
    file = open_weights(write_gguf(tmp_path / "w.gguf", entries, original_shapes={f"{prefix}cube": (3, 4, 256)}))
    assert file.shapes == {"cube": (3, 4, 256), "half": (2, 3), "brain": (2, 3), "single": (2, 3)}
    held = dict(file.tensors())
    cube = held.pop("cube")
    assert isinstance(cube, Packed)
    assert torch.equal(cube.quantised.unpack(cube.blocks, torch.float32).view(6, 512), blocks["Q4_K.dequant_fp32"])
    assert {name: (value.dtype, value.tolist()) for name, value in held.items()} == {
        "half": (torch.float16, values.tolist()),
        "brain": (torch.bfloat16, values.tolist()),
        "single": (torch.float32, values.tolist()),
    }


def test_a_packed_tensor_that_is_no_linear_weight_is_unpacked_on_arrival(
    weights: dict[str, Tensor], tmp_path: Path
) -> None:
    packed = {n: q8_0(v) if n.endswith("attn_gate") else plain(v) for n, v in weights.items()}
    gate = loaded(write_gguf(tmp_path / "w.gguf", packed)).state_dict()["blocks.0.ada.vid.attn_gate"]
    assert gate.dtype == torch.float16
    torch.testing.assert_close(gate.float(), weights["blocks.0.ada.vid.attn_gate"], atol=0.02, rtol=0)


@pytest.mark.parametrize("container", ["safetensors", "gguf"])
def test_a_file_that_does_not_fit_is_refused_with_counts_and_first_names(
    container: str, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    del weights["vid_out.proj.bias"], weights["txt_in.bias"]
    weights["blocks.6.attn.proj_qkv.all.weight"] = torch.zeros(2, 2)
    weights["txt_in.weight"] = torch.zeros(64, 32)
    path = tmp_path / "seedvr2_tiny.bin"
    if container == "gguf":
        write_gguf(path, {name: plain(value) for name, value in weights.items()})
    else:
        save_file(weights, path)
    dit = empty_dit()
    with pytest.raises(WeightsInvalid) as caught:
        assign(dit, open_weights(path), CPU)
    assert caught.value.message == (
        "seedvr2_tiny.bin: 1 unknown keys, first blocks.6.attn.proj_qkv.all.weight; "
        "2 missing keys, first txt_in.bias, vid_out.proj.bias; "
        "1 keys of another shape, first txt_in.weight (64, 32) for (64, 40)"
    )
    assert "147 keys are needed, it has 146" in caught.value.remedy
    assert all(tensor.is_meta for tensor in dit.state_dict().values()), (
        "nothing may be loaded from a file that does not fit"
    )


def test_weights_of_whole_numbers_are_refused(weights: dict[str, Tensor], tmp_path: Path) -> None:
    weights["txt_in.weight"] = torch.zeros(64, 40, dtype=torch.int8)
    save_file(weights, tmp_path / "w.safetensors")
    with pytest.raises(WeightsInvalid, match=r"w.safetensors: txt_in.weight holds torch.int8"):
        loaded(tmp_path / "w.safetensors")


@pytest.mark.parametrize("container", ["safetensors", "gguf"])
def test_one_tensor_at_a_time_is_in_memory(container: str, weights: dict[str, Tensor], tmp_path: Path) -> None:
    if container == "gguf":
        write_gguf(tmp_path / "w", {n: q8_0(v) if quantisable(n, v) else plain(v) for n, v in weights.items()})
    else:
        save_file(weights, tmp_path / "w")
    before: list[weakref.ref[Tensor]] = []
    count = 0
    for _, held in open_weights(tmp_path / "w").tensors():
        assert all(reference() is None for reference in before)
        before = [weakref.ref(held.blocks if isinstance(held, Packed) else held)]
        del held
        count += 1
    assert count == len(weights)


@pytest.mark.parametrize("container", ["safetensors", "gguf"])
def test_a_file_cut_short_is_refused_wherever_the_cut_is(container: str, tmp_path: Path) -> None:
    path = tmp_path / "w"
    if container == "gguf":
        write_gguf(path, {"a": plain(torch.ones(40)), "b": plain(torch.ones(40))})
    else:
        save_file({"a": torch.ones(40), "b": torch.ones(40)}, path)
    whole = path.read_bytes()
    assert dict(open_weights(path).tensors()).keys() == {"a", "b"}
    last = len(whole) - 33  # GGUF may leave out the padding after its last tensor
    for size in [*range(9, last, 7), last]:
        path.write_bytes(whole[:size])
        with pytest.raises(WeightsInvalid):
            open_weights(path)


def test_a_gguf_type_that_we_do_not_read_is_named(tmp_path: Path) -> None:
    write_gguf(tmp_path / "w.gguf", {"a": (2, (32,), bytes(18))})
    with pytest.raises(WeightsInvalid, match=r"w.gguf: a is of type 2; we read F32, F16, BF16, Q8_0"):
        open_weights(tmp_path / "w.gguf")


@pytest.mark.parametrize(
    ("content", "remedy"), [(b"PK\x03\x04 a pickle", "convert"), (b"<html>404", "download"), (b"", "download")]
)
def test_a_file_of_neither_container_is_refused_with_a_remedy(content: bytes, remedy: str, tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(WeightsInvalid, match="neither safetensors nor GGUF") as caught:
        open_weights(tmp_path / "w.safetensors")
    assert remedy in caught.value.remedy


def test_a_missing_file_is_reported_as_missing(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match="no such weights file"):
        open_weights(tmp_path / "w.safetensors")


def test_linear_weights_settle_once_into_the_computing_type_unless_stored_smaller() -> None:
    linear = Linear(4, 4)
    linear.settle(torch.bfloat16)
    assert linear.weight.dtype == linear.bias.dtype == torch.bfloat16
    linear.weight.data = linear.weight.data.to(torch.float8_e4m3fn)
    linear.settle(torch.bfloat16)
    assert linear.weight.dtype == torch.float8_e4m3fn


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
