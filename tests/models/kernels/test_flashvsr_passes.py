"""What FlashVSR's transformer and projection do between products: fused passes against their twins."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from upres.models.flashvsr.dit import Dit, DitConfig
from upres.models.flashvsr.locality import Choice, Locality, neighbours
from upres.models.flashvsr.memory import SliceMemory
from upres.models.kernels import switch
from upres.models.kernels.blocks import key_lists
from upres.models.kernels.choice import chosen, threshold
from upres.models.kernels.fp8 import Rows
from upres.models.kernels.rows import changed_then_normed, kept, linear, linear_gelu, narrowed
from upres.models.kernels.unfolded import convolved
from upres.models.kernels.whole_heads import Norms, placed, window_means

CONFIG = DitConfig(dim=96, layers=1, heads=3, ffn_dim=64, text_dim=32, waves=16)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("changes", "gates"), [(False, False), (True, False), (True, True)])
def test_a_change_is_added_and_the_sum_normed_about_its_mean(fused: None, changes: bool, gates: bool) -> None:
    x, change, gate, scale, shift = drawn(5, 40) + 3, drawn(5, 40, seed=1), *drawn(3, 40, seed=2)
    given = change if changes else None, gate if gates else None
    summed, seen = changed_then_normed(x, *given, scale, shift, 1e-6)
    wanted = x + (change * gate if gates else change) if changes else x
    assert isinstance(seen, Tensor)
    torch.testing.assert_close(summed, wanted, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(seen, F.layer_norm(wanted, (40,), scale, shift, 1e-6), atol=1e-5, rtol=1e-5)


def test_heads_are_normed_together_rotated_and_put_where_they_are_read(fused: None) -> None:
    qkv, norms = drawn(8, 3 * 48 + 5)[:, : 3 * 48], Norms(*drawn(2, 48, seed=1), 1e-6)
    rotation = torch.polar(torch.ones(8, 8), drawn(8, 8, seed=2))
    made = []
    for mode in ("fused", "plain"):
        switch.use(mode)
        keys, values = torch.zeros(2, 8, 3, 16)
        q = placed(qkv, norms, rotation, keys, values)
        made.append((q, keys, values, window_means(keys, 4)))
    for fast, plain in zip(*made, strict=True):
        assert fast.shape == plain.shape and fast.any()
        torch.testing.assert_close(fast, plain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("top", [3, 20, 10_000])
def test_the_lists_name_what_the_choice_allows(fused: None, top: int) -> None:
    near = neighbours(2, 3, 3, torch.device("cpu"))
    queries, keys = drawn(12, 2, 16), drawn(18, 2, 16, seed=1)
    numbers, counts = chosen(queries, keys, near, top)
    wanted_numbers, wanted_counts = key_lists(Choice()(queries, keys, near, top))
    assert torch.equal(counts, wanted_counts)
    named = torch.arange(18) < counts[..., None]
    assert torch.equal(numbers[named], wanted_numbers[named])


def test_wherever_slices_lie_the_lists_name_what_the_choice_in_order_of_time_allows(fused: None) -> None:
    """One token stands for a window. In the first step there is room that no list may name."""
    near, memory = neighbours(2, 3, 3, torch.device("cpu")), SliceMemory(3)
    for step in range(5):
        new = 1 if step else 3
        keys, _ = memory.room(new, (new * 6, 2, 16), new * 6, torch.zeros(1))
        keys.copy_(drawn(new * 6, 2, 16, seed=step))
        seen, queries = memory.see(keys), drawn(new * 6, 2, 16, seed=10 + step)
        mask = seen.as_they_lie(Choice()(queries, seen.in_time(seen.means), near, 30), len(seen.keys))
        numbers, counts = chosen(queries, seen.means, near, 30)
        wanted, wanted_counts = key_lists(mask)
        assert numbers.shape[-1] == len(seen.means) <= len(seen.keys) == mask.shape[-1] == 24
        assert torch.equal(counts, wanted_counts) and counts.any()
        assert int(numbers.min()) >= 0 and int(numbers.max()) < len(seen.means)
        named = torch.arange(numbers.shape[-1]) < counts[..., None]
        assert torch.equal(numbers[named], wanted[..., : numbers.shape[-1]][named])
    assert sorted(seen.slots) != list(seen.slots)


def test_few_pairs_and_many_have_the_same_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = torch.randint(0, 50, (2, 3, 100), generator=torch.Generator().manual_seed(0)).float()
    few = [threshold(pairs, kept) for kept in (0, 7, 99)]
    monkeypatch.setattr("upres.models.kernels.choice.FEW", 0)
    assert all(torch.equal(threshold(pairs, kept), one) for kept, one in zip((0, 7, 99), few, strict=True))


def test_a_convolution_over_time_is_a_product(fused: None) -> None:
    x, weight, bias = drawn(2, 8, 6, 3, 5), drawn(12, 8, 4, 3, 3, seed=1) / 17, drawn(12, seed=2)
    fast = convolved(x, weight, bias, 2, 1.0)
    switch.use("plain")
    torch.testing.assert_close(fast, convolved(x, weight, bias, 2, 1.0), atol=2e-5, rtol=0)


def test_gathered_in_parts_it_is_the_same_and_in_8_bits_near(fp8: None, monkeypatch: pytest.MonkeyPatch) -> None:
    x = drawn(1, 16, 6, 2, 3).bfloat16()
    weight, bias = drawn(16, 16, 4, 3, 3, seed=1).bfloat16() / 24, drawn(16, seed=2).bfloat16()
    monkeypatch.setattr("upres.models.kernels.unfolded.ROW_BYTES", 2048)
    eight = convolved(x, weight, bias, 2, 16.0).float()
    switch.use("fused")
    fast = convolved(x, weight, bias, 2, 16.0).float()
    switch.use("plain")
    plain = convolved(x.float(), weight.float(), bias.float(), 2, 16.0)
    torch.testing.assert_close(fast, plain, atol=3e-2, rtol=3e-2)
    assert 1e-3 < (eight - plain).norm() / plain.norm() < 0.15


def dit(dtype: torch.dtype) -> Dit:
    net = Dit(CONFIG).requires_grad_(False)
    for number, (name, parameter) in enumerate(net.named_parameters()):
        spread = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.1
        parameter.copy_(drawn(*parameter.shape, seed=number) * spread + ("norm" in name))
    return net.to(dtype)


def two_steps(net: Dit, dtype: torch.dtype) -> Tensor:
    """A first step and a further one, of one window; of the two windows that the latter may see one is kept."""
    locality = Locality(1, 1, torch.ones(1, 1, dtype=torch.bool), 1)
    conditioning = net.conditioning(drawn(5, 32, seed=3).to(dtype))
    memories = [SliceMemory(1) for _ in range(CONFIG.layers)]
    condition = drawn(3 * 128, 96, seed=4).to(dtype)
    net(drawn(16, 6, 16, 16).to(dtype), [condition], 0, memories, locality, conditioning)
    return net(drawn(16, 2, 16, 16, seed=1).to(dtype), [condition[:128]], 6, memories, locality, conditioning)


def test_the_fused_transformer_gives_the_same_velocity_in_a_further_step(fused: None) -> None:
    net = dit(torch.float32)
    made = two_steps(net, torch.float32)
    switch.use("plain")
    torch.testing.assert_close(made, two_steps(net, torch.float32), atol=1e-4, rtol=0)


def test_8_bit_products_take_what_was_normed_and_round_a_weight_once(fp8: None) -> None:
    x, scale, shift = drawn(3, 32).bfloat16(), *drawn(2, 32, seed=1).bfloat16()
    weight, bias = drawn(48, 32, seed=2).bfloat16() / 6, drawn(48, seed=3).bfloat16()
    _, seen = changed_then_normed(x, None, None, scale, shift, 1e-6)
    assert isinstance(seen, Rows) and kept(weight) is kept(weight)
    wide = linear_gelu(seen, weight, bias)
    assert isinstance(wide, Rows)
    normed = F.layer_norm(x.float(), (32,), scale.float(), shift.float(), 1e-6)
    wanted = F.linear(normed, weight.float(), bias.float())
    for made, exact in ((linear(seen, weight, bias), wanted), (wide.widened(), F.gelu(wanted, approximate="tanh"))):
        assert made.dtype == torch.bfloat16
        assert 1e-3 < (made.float() - exact).norm() / exact.norm() < 0.15
    assert isinstance(narrowed(x), Rows)
