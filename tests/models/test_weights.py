"""Weights files of every kind, read by their content, into models that take all of it or nothing."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.gguf_writer import BF16, F16, Q4_K, plain, q8_0, write_gguf
from tests.seedvr2_recorded import TINY, run_dit, tensors, tiny_dit
from upres.errors import FileMissing, WeightsInvalid
from upres.models.seedvr2.dit import Dit
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
