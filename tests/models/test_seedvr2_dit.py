"""SeedVR2's transformer against tensors recorded from the reference implementation, float32 on the CPU."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.seedvr2_recorded import TINY, run_dit, table, tensors, text_angles, tiny_dit, turned_by, video_angles
from upres.errors import InvalidSetting
from upres.models.attention import attend, choose, packed_call, sdpa_by_length
from upres.models.seedvr2.config import SEEDVR2_3B, SEEDVR2_7B, DitConfig
from upres.models.seedvr2.dit import Block, Dit
from upres.models.seedvr2.modulation import leave
from upres.models.seedvr2.rope import CentredRope, CountedRope, Rope
from upres.models.seedvr2.spans import Grid, window_spans
from upres.models.seedvr2.windows import Layout, window_layout

pytestmark = pytest.mark.usefixtures("small_tensors")

CPU = torch.device("cpu")
CASES = [(size, case) for size in TINY for case in ("small_detail", "img", "vid")]
DIT_TOLERANCE = 2e-5
# At t = 1000 the last bit of exp, which is not the same in all maths libraries, is a ten-thousandth of a radian in the
# time embedding. The embedding is held to DIT_TOLERANCE by itself, and so is everything after it.
WHOLE_TOLERANCE = 5e-5


class RecordedEmbedding(nn.Module):
    def __init__(self, flat: Tensor) -> None:
        super().__init__()
        self.emb = flat.view(-1, 2, 3).permute(1, 2, 0)

    def forward(self, timestep: float, like: Tensor) -> Tensor:
        return self.emb


def assert_within(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


# The published checkpoints: sha256 over the sorted lines "key shape".
@pytest.mark.parametrize(
    ("config", "keys", "parameters", "digest"),
    [
        (SEEDVR2_3B, 635, 3_391_475_776, "cdacd46baf156674f6f13eaeb1de3b774c16aad5a6ff92b8d4a4df5aac0b09f9"),
        (SEEDVR2_7B, 1128, 8_239_607_872, "5654c48b15cc14a6c5a838b7b4986c250b7c7aea040de24c077a1119aa00a7c4"),
    ],
)
def test_a_full_size_model_has_the_keys_and_shapes_of_its_published_checkpoint(
    config: DitConfig, keys: int, parameters: int, digest: str
) -> None:
    with torch.device("meta"):
        dit = Dit(config)
    lines = sorted(f"{name} {tuple(tensor.shape)}" for name, tensor in dit.state_dict().items())
    assert len(lines) == keys
    assert sum(parameter.numel() for parameter in dit.parameters()) == parameters
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == digest


@pytest.mark.parametrize(("size", "case"), CASES)
def test_the_whole_transformer_equals_the_recorded_velocity(size: str, case: str) -> None:
    given = tensors(f"dit_{size}_tiny_{case}")
    assert_within(run_dit(tiny_dit(size), given), given["out.vid_sample"], WHOLE_TOLERANCE)


@pytest.mark.parametrize(("size", "case"), CASES)
def test_everything_after_the_time_embedding_equals_the_recorded_velocity(size: str, case: str) -> None:
    given, dit = tensors(f"dit_{size}_tiny_{case}"), tiny_dit(size)
    dit.emb_in = RecordedEmbedding(given["act.emb"])
    assert_within(run_dit(dit, given), given["out.vid_sample"], DIT_TOLERANCE)


@pytest.mark.parametrize(("size", "case"), CASES)
def test_the_time_embedding_equals_the_recorded_one(size: str, case: str) -> None:
    given = tensors(f"dit_{size}_tiny_{case}")
    emb = tiny_dit(size).emb_in(given["in.timestep"].item(), like=given["in.txt"])
    assert_within(emb.permute(2, 0, 1).reshape(1, -1), given["act.emb"], DIT_TOLERANCE)


def test_a_shifted_block_of_the_7b_equals_the_recorded_one() -> None:
    given = tensors("dit_7b_tiny_block1")
    block = Block(TINY["7b"], index=1)
    block.load_state_dict({name: value for name, value in given.items() if name[:3] not in ("in.", "out")})
    layout = window_layout((2, 3, 5), len(given["in.txt"]), CPU, shifted=True)
    emb = RecordedEmbedding(given["in.emb"]).emb
    vid, txt = block(given["in.vid"], given["in.txt"], emb, layout)
    assert_within(vid, given["out.vid"], DIT_TOLERANCE)
    assert_within(txt, given["out.txt"], DIT_TOLERANCE)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_input_is_computed_and_returned_in_half_precision(dtype: torch.dtype) -> None:
    given, dit = tensors("dit_3b_tiny_small_detail"), tiny_dit("3b")
    exact = run_dit(dit, given)
    half = run_dit(dit, {**given, "in.vid": given["in.vid"].to(dtype)})
    assert half.dtype == dtype
    assert (half.float() - exact).abs().mean() < exact.abs().mean() * 20 * torch.finfo(dtype).eps


def test_a_change_is_gated_in_single_precision_and_rounded_once() -> None:
    x, change = torch.zeros(1, 1, dtype=torch.bfloat16), torch.tensor([[1.9921875]], dtype=torch.bfloat16)
    gate = torch.tensor([[0.0], [0.0], [1.0035]])  # 1 in bfloat16, which would leave the change as it is
    assert leave(x, change, gate).item() == 2.0


@pytest.mark.parametrize("row", table("windows"), ids=lambda row: "x".join(map(str, row["size_tokens"])))
def test_windows_are_cut_as_in_the_reference(row: dict[str, list[int]]) -> None:
    for method, shifted in (("720pwin_by_size_bysize", False), ("720pswin_by_size_bysize", True)):
        t, h, w = window_spans(tuple(row["size_tokens"]), shifted)
        assert [[*a, *b, *c] for c in w for b in h for a in t] == row[method]


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("grid", [(1, 1, 1), (5, 22, 21), (2, 20, 34), (3, 7, 50)])
def test_each_window_is_packed_as_its_tokens_in_order_and_then_the_text(grid: Grid, shifted: bool) -> None:
    text_length = 3
    layout = window_layout(grid, text_length, CPU, shifted=shifted)
    numbers = torch.arange(grid[0] * grid[1] * grid[2])
    packed = torch.cat((numbers, torch.tensor([-1, -2, -3])))[layout.pack]
    sequences = sorted(sequence.tolist() for sequence in packed.split(layout.lengths))

    t, h, w = window_spans(grid, shifted)
    tokens = numbers.view(grid)
    expected = [
        [*tokens[slice(*a), slice(*b), slice(*c)].flatten().tolist(), -1, -2, -3] for a in t for b in h for c in w
    ]
    assert sequences == sorted(expected)
    assert packed[layout.video_rows].tolist() == numbers.tolist()
    assert packed[layout.text_rows].tolist() == [[-1, -2, -3]] * len(expected)


def test_windows_of_equal_length_lie_side_by_side() -> None:
    lengths = window_layout((6, 45, 80), 58, CPU, shifted=True).lengths
    assert list(lengths) == sorted(lengths)
    assert len(set(lengths)) < len(lengths)


@pytest.mark.parametrize("name", ["", "_fp16freqs", "_bf16freqs"])
@pytest.mark.parametrize(("size", "rope"), [("3b", CountedRope(128)), ("7b", CentredRope(64))])
def test_heads_turn_as_recorded_in_each_type_of_stored_frequencies(size: str, rope: Rope, name: str) -> None:
    given = tensors("rope_head128")
    dtype = {"": torch.float32, "_fp16freqs": torch.float16, "_bf16freqs": torch.bfloat16}[name]
    rope.rope.freqs = given[f"freqs{size}"].to(dtype)
    windows = [Layout.of(([(0, t)], [(0, h)], [(0, w)]), 5, CPU) for t, h, w in given["in.window_shapes"].tolist()]
    angles = torch.cat([video_angles(rope, window) for window in windows])

    assert_within(angles.repeat_interleave(2, dim=-1), given[f"angles{size}{name}.vid"].float(), 1e-6)
    for head in ("q", "k") if not name else ("q",):
        turned = turned_by(given[f"in.vid_{head}"], angles)
        assert_within(turned, given[f"out{size}{name}.vid_{head}"], 2e-6)


def test_text_turns_in_the_3b_and_stays_in_the_7b() -> None:
    given, layout = tensors("rope_head128"), window_layout((1, 1, 1), 5, CPU, shifted=False)
    angles = text_angles(CountedRope(128), layout).repeat(3, 1)  # recorded once for each of three windows
    for head in ("q", "k"):
        assert_within(turned_by(given[f"in.txt_{head}"], angles), given[f"out3b.txt_{head}"], 2e-6)
    assert not text_angles(CentredRope(64), layout).any()


def test_frequencies_stored_in_fp8_meet_positions_of_a_wider_type() -> None:
    rope = CountedRope(128)
    rope.rope.freqs = rope.rope.freqs.to(torch.float8_e4m3fn)
    angles = rope.rope.angles(torch.tensor([61]))[0]
    assert angles[0] == 61  # 60 in fp8
    assert angles[-5:].tolist() == [0.0] * 5  # too small for fp8: the file's values are used, not better ones


@pytest.mark.parametrize("lengths", [(4,), (2, 2, 3), (1, 5, 5, 1)])
def test_attention_stays_within_each_sequence(lengths: tuple[int, ...]) -> None:
    q, k, v = torch.randn(3, sum(lengths), 2, 8, generator=torch.Generator().manual_seed(0))
    out = attend(q, k, v, lengths)
    for part, a, b, c in zip(*(x.split(lengths) for x in (out, q, k, v)), strict=True):
        weights = torch.einsum("qhd,khd->hqk", a, b).div(8**0.5).softmax(-1)
        assert_within(part, torch.einsum("hqk,khd->qhd", weights, c), 1e-6)


def test_attention_refuses_lengths_that_do_not_add_up() -> None:
    with pytest.raises(ValueError, match="sequences of 5 rows in all, but 4 rows"):
        attend(*torch.zeros(3, 4, 1, 8), lengths=(2, 3))


def varlen_reference(
    q: Tensor, k: Tensor, v: Tensor, ends_q: Tensor, ends_k: Tensor, most_q: int, most_k: int
) -> Tensor:
    """What FlashAttention's packages promise: sequence i is rows ends[i] … ends[i + 1] - 1."""
    assert ends_q.dtype == ends_k.dtype == torch.int32
    lengths = ends_q.diff().tolist()
    assert max(lengths) == most_q == most_k
    return torch.cat([attend(*(x[start:stop] for x in (q, k, v)), lengths=(int(stop - start),))
                      for start, stop in zip(ends_q, ends_k[1:], strict=False)])  # fmt: skip


def test_a_kernel_for_packed_sequences_is_told_where_they_end() -> None:
    lengths = (2, 2, 3, 7)
    q, k, v = torch.randn(3, sum(lengths), 2, 8, generator=torch.Generator().manual_seed(0))
    assert_within(packed_call(varlen_reference, q, k, v, lengths), attend(q, k, v, lengths), 1e-6)


def test_without_a_package_attention_is_torchs_own_and_asking_for_the_package_says_its_name() -> None:
    assert choose("auto") is choose("sdpa") is sdpa_by_length
    with pytest.raises(InvalidSetting, match="attention 'sage' needs the package sageattention; install it"):
        choose("sage")


def test_an_installed_package_is_chosen_but_not_for_what_it_cannot_compute(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "flash_attn.py").write_text("def flash_attn_varlen_func(*given):\n    raise AssertionError")
    (tmp_path / "sageattention.py").write_text("def sageattn_varlen(*given):\n    raise AssertionError")
    monkeypatch.syspath_prepend(tmp_path)
    q = torch.ones(3, 1, 8)
    for name in ("auto", "flash", "sage"):
        kernel = choose(name)
        assert kernel is not sdpa_by_length
        assert torch.equal(kernel(q, q, q, (3,)), q), "float32, on a CPU"


def test_layouts_and_rotations_are_made_once_for_a_grid() -> None:
    given, dit = tensors("dit_3b_tiny_small_detail"), tiny_dit("3b")
    first = run_dit(dit, given)
    (layouts,) = dit._made.values()
    turns = [dict(layout.turns) for layout in layouts]
    assert torch.equal(run_dit(dit, given), first)
    assert [*dit._made.values()] == [layouts] and [layout.turns for layout in layouts] == turns
    assert sum(map(len, turns)) == dit.config.layers
