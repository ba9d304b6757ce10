"""Attention of 8-bit queries, keys and values: how they are rounded, where they lie. Its kernel runs on Hopper only."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.models.kernels.test_blocks import some_mask
from tests.models.kernels.test_flashvsr_passes import dit, drawn, two_steps
from upres.models.flashvsr.sparse_attention import masked
from upres.models.kernels import eights, switch
from upres.models.kernels.blocks import key_lists


def rounded(x: Tensor, values: Tensor) -> tuple[eights.Queries, Tensor, eights.Keys]:
    blocks, (heads, dim) = len(x) // 128, x.shape[1:]
    eight = [torch.empty(shape, dtype=torch.float8_e4m3fn) for shape in (x.shape, (blocks, heads, dim, 128))]
    held = eights.Keys(*eight, *torch.empty(2, blocks, heads))
    eights.turned_values(values, held.values, held.value_scales)
    means = eights.rounded_keys(x, held.keys, held.key_scales)
    return eights.rounded_queries(x)[0], means, held


def test_blocks_are_rounded_and_values_turned_as_the_twin_says(fused: None) -> None:
    x, values = drawn(256, 2, 16) * 3, drawn(256, 3, 2, 16, seed=1)[:, 1]
    x[128:, 1] = 0
    fast = rounded(x, values)
    switch.use("plain")
    plain = rounded(x, values)
    torch.testing.assert_close(fast[1], plain[1], atol=1e-6, rtol=1e-5)
    for name in ("keys", "values", "key_scales", "value_scales"):
        mine, twin = (getattr(held, name).float() for held in (fast[2], plain[2]))
        apart = ~torch.isclose(mine, twin, atol=0, rtol=1e-6)
        assert apart.float().mean() < 0.03  # the interpreter loses the carry when a mantissa is rounded up to two
        assert not (apart & ~torch.isclose(mine, twin / 2, atol=0, rtol=0.07)).any()
    switch.use("plain")
    _, keys, widened = eights.widened(plain[0], plain[2])
    assert not keys[128:, 1].any()
    for exact, made in ((x, keys), (values, widened)):
        assert 1e-3 < (made - exact).norm() / exact.norm() < 0.05


def test_a_thread_has_the_weights_that_it_must_give() -> None:
    """PTX, fragments of wgmma: scores 2j, 2j+1 of each 8 keys; as 8-bit factors 4j to 4j+3 of each 16."""
    places = eights.order(torch.device("cpu")).view(8, 4, 4)
    for j in range(4):
        assert set((places[:, j] % 8).flatten().tolist()) == {2 * j, 2 * j + 1}
    assert sorted(places.flatten().tolist()) == list(range(128))


def test_attention_in_8_bits_is_near_what_it_is_without(fused: None) -> None:
    x, values, mask = drawn(384, 2, 16), drawn(384, 2, 16, seed=1), some_mask(2, 3, 3)
    switch.use("plain")
    queries, _, held = rounded(x, values)
    switch.use("fused")
    made, wanted = eights.attend_in_eights(queries, held, *key_lists(mask)), masked(x, x, values, mask)
    assert not made[:128, 0].any()
    assert 1e-3 < (made - wanted).norm() / wanted.norm() < 0.1


def test_the_transformer_remembers_keys_and_values_in_8_bits(fused: None, monkeypatch: pytest.MonkeyPatch) -> None:
    net = dit(torch.float32)
    exact = two_steps(net, torch.float32)
    monkeypatch.setattr(eights, "takes", lambda qkv, head_dim: True)
    made = two_steps(net, torch.float32)
    assert 1e-4 < (made - exact).norm() / exact.norm() < 0.05
