"""FlashVSR's transformer piece by piece: who sees whom, positions without an end, decoders' slices."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.flashvsr_tiny import DIT, dit, prompt, tiny_decoder, wan_decoder
from upres.models.flashvsr import decoder as decoder_module
from upres.models.flashvsr.locality import Choice, Locality, neighbours, pairs_kept
from upres.models.flashvsr.memory import SliceMemory
from upres.models.flashvsr.rope import turns
from upres.models.flashvsr.sparse_attention import attend, block_mask, masked
from upres.models.flashvsr.windows import TOKENS, patches_in, patches_out
from upres.models.kernels.whole_heads import turned

CPU = torch.device("cpu")


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_patches_come_back_where_they_were() -> None:
    latents = drawn(16, 4, 32, 48)
    assert torch.equal(patches_out(permuted(patches_in(latents)), 2, 3), latents)


def permuted(tokens: Tensor) -> Tensor:
    """(c p q) -> (p q c)."""
    return tokens.unflatten(1, (16, 4)).transpose(1, 2).flatten(1)


@pytest.mark.parametrize(("reach", "row"), [(1, [2]), (2, [1, 2]), (3, [1, 2, 3]), (4, [0, 1, 2, 3]), (9, [*range(6)])])
def test_a_window_sees_as_many_rows_as_it_may_more_of_them_above(reach: int, row: list[int]) -> None:
    near = neighbours(6, 1, reach, CPU)
    assert near[2].nonzero()[:, 0].tolist() == row


def test_a_picture_turned_on_its_side_has_neighbours_of_its_own() -> None:
    assert not torch.equal(neighbours(6, 10, 3, CPU), neighbours(10, 6, 3, CPU))


@pytest.mark.parametrize(("size", "kept"), [((768, 1280), 7199), ((768, 1408), 7919), ((1536, 2688), 30239)])
def test_about_sixty_windows_times_the_ratio_are_kept_for_each_window(size: tuple[int, int], kept: int) -> None:
    locality = Locality.of(*size, sparse_ratio=2.0, local_range=11, device=CPU)
    assert locality.top == kept == pairs_kept(locality.windows, 2.0 * 768 * 1280 / (size[0] * size[1]))


def test_all_equal_pairs_fall_together_and_of_few_all_but_the_least_are_kept() -> None:
    near = torch.ones(2, 2, dtype=torch.bool)
    same = torch.ones(2, 1, 4)
    assert not Choice()(same, same, near, 2).any()
    mask = Choice()(drawn(2, 1, 4), drawn(2, 1, 4, seed=1), near, 100)
    assert mask.sum() == 3


def naive(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    out = torch.zeros_like(q)
    for head in range(q.shape[1]):
        for token in range(len(q)):
            seen = mask[head, token // TOKENS].repeat_interleave(TOKENS)
            if seen.any():
                scores = (k[seen, head] @ q[token, head]) / math.sqrt(q.shape[-1])
                out[token, head] = scores.softmax(0) @ v[seen, head]
    return out


def test_attention_sees_the_allowed_blocks_only_and_none_gives_zeros() -> None:
    q, k, v = drawn(2 * TOKENS, 2, 8), drawn(3 * TOKENS, 2, 8, seed=1), drawn(3 * TOKENS, 2, 8, seed=2)
    mask = torch.tensor([[[1, 0, 1], [0, 0, 0]], [[0, 1, 0], [1, 1, 1]]], dtype=torch.bool)
    out = attend(q, k, v, mask)
    torch.testing.assert_close(out, naive(q, k, v, mask), atol=1e-5, rtol=1e-5)
    assert not out[TOKENS:, 0].any()


def test_the_block_mask_of_the_kernel_names_exactly_the_allowed_blocks() -> None:
    mask = drawn(3, 4, 7) > 0.3
    mask[1, 2] = False
    blocks = block_mask(mask)
    assert blocks.full_kv_num_blocks is not None and blocks.full_kv_indices is not None
    assert not blocks.kv_num_blocks.any() and blocks.seq_lengths == (4 * TOKENS, 7 * TOKENS)
    for head, row in ((head, row) for head in range(3) for row in range(4)):
        count = int(blocks.full_kv_num_blocks[0, head, row])
        named = blocks.full_kv_indices[0, head, row, :count].tolist()
        assert named == mask[head, row].nonzero()[:, 0].tolist()


def test_what_is_not_remembered_yet_is_room_that_nothing_sees() -> None:
    q, k, v = (drawn(2 * TOKENS, 1, 8, seed=n) for n in range(3))
    mask = torch.ones(1, 2, 2, dtype=torch.bool)
    room = torch.zeros(TOKENS, 1, 8)
    wide = masked(q, torch.cat((k, room)), torch.cat((v, room)), torch.nn.functional.pad(mask, (0, 1)))
    torch.testing.assert_close(wide, masked(q, k, v, mask))


@pytest.mark.parametrize("start", [0, 1022, 10**6])
def test_positions_are_computed_wherever_the_clip_is(start: int) -> None:
    rotation = turns(24, start, 1, 2, 1, CPU)
    assert rotation.shape == (2 * TOKENS, 12)
    second = rotation[64]  # of the first window, the second latent frame, row and column 0
    expected = [(start + 1) * 10_000 ** (-2 * pair / 8) for pair in range(4)]
    torch.testing.assert_close(second[:4].imag.double(), torch.tensor(expected, dtype=torch.float64).sin(),
                               atol=1e-7, rtol=0)  # fmt: skip
    assert torch.equal(second[4:], torch.ones(8, dtype=torch.complex64))


def test_only_the_distance_of_two_positions_counts_however_late_they_are() -> None:
    q, k = drawn(TOKENS, 1, 24), drawn(TOKENS, 1, 24, seed=1)
    early, late = (
        (turned(q, turns(24, at, 1, 1, 1, CPU)) * turned(k, turns(24, at + 4, 1, 1, 1, CPU))).sum(-1)
        for at in (0, 200_000)
    )
    torch.testing.assert_close(early, late, atol=1e-4, rtol=0)


def test_a_step_late_in_a_clip_is_as_one_early_in_it() -> None:
    net, latents = dit(), [drawn(16, 6, 16, 16), *(drawn(16, 2, 16, 16, seed=n) for n in (1, 2))]
    locality = Locality(1, 1, torch.ones(1, 1, dtype=torch.bool), 59)
    conditioning = net.conditioning(prompt()[0].float())
    out = []
    for offset in (0, 5000):
        memories = [SliceMemory(3) for _ in range(DIT.layers)]
        for step, x in enumerate(latents):
            start = offset + (4 + 2 * step if step else 0)
            velocity = net(x, [], start, memories, locality, conditioning)
        out.append(velocity)
    torch.testing.assert_close(*out, atol=1e-3, rtol=0)


def test_decoding_in_small_slices_gives_the_same_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    net, latents, frames = tiny_decoder(), drawn(16, 6, 8, 8), drawn(21, 3, 64, 64).clamp(-1, 1)
    whole = net(latents, frames, net.open())
    monkeypatch.setattr(decoder_module, "SLICE_BYTES", 1)
    torch.testing.assert_close(net(latents, frames, net.open()), whole, atol=1e-5, rtol=0)


def test_wans_decoder_gives_the_same_frames_however_the_latents_come() -> None:
    net, latents = wan_decoder(), drawn(16, 4, 4, 4)
    whole, memory = net.decode(latents, net.open()), net.open()
    parts = torch.cat([net.decode(part, memory) for part in latents.split((1, 2, 1), dim=1)])
    assert torch.equal(parts, whole)
    assert whole.shape == (13, 3, 32, 32)
