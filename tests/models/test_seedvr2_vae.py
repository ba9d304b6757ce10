"""The autoencoder against recorded reference tensors, and a clip pushed in portions against the same clip at once."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.bench.gpu.counting import count
from upres.models.kernels.frame_norm import by_sums
from upres.models.seedvr2.causal import CausalConv3d, Memory
from upres.models.seedvr2.config import SEEDVR2_VAE, TINY_VAE
from upres.models.seedvr2.norm import FrameNorm
from upres.models.seedvr2.tiles import Tiling
from upres.models.seedvr2.tiling import Passage, decoding_tiles, encoding_tiles
from upres.models.seedvr2.vae import VideoVae

pytestmark = pytest.mark.usefixtures("small_tensors")

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "seedvr2"
FULL_GOLDEN = ROOT.parent / "shared" / "golden" / "seedvr2"  # the complete set, where there is one
MANIFEST = ROOT.parent / "shared" / "manifests" / "seedvr2" / "vae.json"
TOLERANCE, OUTPUT_MAGNITUDE = 2e-5, 5.0  # activations inside are larger than the outputs
LENGTHS = ["T1", "T5", "T9", "T13"]
TILINGS = {"a": Tiling((48, 48), (16, 16)), "img": Tiling((48, 40), (16, 8))}


def recorded(name: str) -> dict[str, torch.Tensor]:
    for folder in (FULL_GOLDEN, GOLDEN):
        if (path := folder / f"{name}.safetensors").exists():
            return load_file(path)
    pytest.skip(f"{name} is not recorded here")


def assert_near(ours: torch.Tensor, wanted: torch.Tensor) -> None:
    scale = max(1.0, wanted.abs().max().item() / OUTPUT_MAGNITUDE)
    torch.testing.assert_close(ours.view(wanted.shape), wanted, atol=TOLERANCE * scale, rtol=0)


@pytest.fixture(scope="module", params=["as published", "merged"])
def vae(request: pytest.FixtureRequest) -> VideoVae:
    model = VideoVae(TINY_VAE)
    model.load_state_dict(load_file(GOLDEN / "vae_tiny_weights.safetensors"))
    if request.param == "merged":
        model.merge()
    return model


@pytest.fixture(scope="module")
def clip() -> torch.Tensor:
    return torch.rand(1, 3, 9, 24, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("length", LENGTHS)
def test_encoding_equals_the_recorded_latents(vae: VideoVae, length: str) -> None:
    golden = recorded(f"vae_tiny_{length}")
    assert_near(vae.encode(golden["in.video"]), golden["out.latent_mode"])


@pytest.mark.parametrize("length", LENGTHS)
def test_decoding_equals_the_recorded_frames(vae: VideoVae, length: str) -> None:
    golden = recorded(f"vae_tiny_{length}")
    assert_near(vae.decode(golden["in.z"]), golden["out.decoded"])


def test_mean_and_variance_of_an_unsliced_clip_equal_the_recorded_moments(vae: VideoVae) -> None:
    golden = recorded("vae_tiny_T5")
    assert_near(vae.encoder(golden["in.video"], Memory()), golden["out.moments"])


def test_every_block_gives_the_recorded_activations(vae: VideoVae) -> None:
    golden = recorded("vae_tiny_T5")
    seen: dict[str, torch.Tensor] = {}
    wanted = [name.removeprefix("act.") for name in golden if name.startswith("act.")]
    if not wanted:
        pytest.skip("the activations of vae_tiny_T5 are not recorded here")
    hooks = [
        vae.get_submodule(name).register_forward_hook(lambda _module, _args, out, name=name: seen.update({name: out}))
        for name in wanted
    ]
    vae.encoder(golden["in.video"], Memory())
    vae.decoder(golden["in.z"], Memory())
    for hook in hooks:
        hook.remove()
    # merged, an enlargement computes nothing in between
    merged = vae.decoder.up_blocks[0].upsamplers[0].merged
    wanted = [name for name in wanted if not merged or ".upsamplers.0." not in name]
    assert sorted(seen) == sorted(wanted)
    for name in wanted:
        activation = seen[name][0].transpose(0, 1) if golden[f"act.{name}"].ndim == 4 else seen[name]
        assert_near(activation.contiguous(), golden[f"act.{name}"])


@pytest.mark.parametrize("name", TILINGS)
def test_tiled_encoding_equals_the_recorded_latents(vae: VideoVae, name: str) -> None:
    golden = recorded(f"vae_tiny_tiled_{name}")
    assert_near(vae.encode(golden["in.video"], TILINGS[name]), golden["out.latent_mode"])


@pytest.mark.parametrize("name", TILINGS)
def test_tiled_decoding_equals_the_recorded_frames(vae: VideoVae, name: str) -> None:
    golden = recorded(f"vae_tiny_tiled_{name}")
    assert_near(vae.decode(golden["in.z"], TILINGS[name]), golden["out.decoded"])


@pytest.mark.parametrize("tiling", [None, Tiling((16, 24), (8, 8))], ids=["whole", "tiled"])
@pytest.mark.parametrize("portions", [[1] * 9, [5, 4], [2, 7], [8, 1]], ids=str)
def test_a_clip_pushed_in_portions_encodes_to_the_same_bits(
    vae: VideoVae, clip: torch.Tensor, portions: list[int], tiling: Tiling | None
) -> None:
    passage = vae.encoding(24, 32, tiling)
    pushed = torch.cat([passage.push(portion) for portion in clip.split(portions, dim=2)], dim=2)
    assert torch.equal(pushed, vae.encode(clip, tiling))


@pytest.mark.parametrize("tiling", [None, Tiling((16, 24), (8, 8))], ids=["whole", "tiled"])
@pytest.mark.parametrize("portions", [[1, 1, 1], [2, 1], [1, 2]], ids=str)
def test_latents_pushed_in_portions_decode_to_the_same_bits(
    vae: VideoVae, clip: torch.Tensor, portions: list[int], tiling: Tiling | None
) -> None:
    latents = vae.encode(clip)
    passage = vae.decoding(24, 32, tiling)
    pushed = torch.cat([passage.push(portion) for portion in latents.split(portions, dim=2)], dim=2)
    assert torch.equal(pushed, vae.decode(latents, tiling))


def test_slices_give_what_the_whole_clip_gives_in_one_pass(vae: VideoVae, clip: torch.Tensor) -> None:
    latents = vae.encode(clip)
    assert_near(vae.encoder(clip, Memory())[:, :16], latents)
    assert_near(vae.decoder(latents, Memory()), vae.decode(latents))


def test_a_frame_never_depends_on_later_ones(vae: VideoVae, clip: torch.Tensor) -> None:
    assert torch.equal(vae.encode(clip[:, :, :5]), vae.encode(clip)[:, :, :2])


def test_memory_does_not_grow_with_the_clip_and_is_freed_with_its_last_portion(vae: VideoVae) -> None:
    frames = torch.zeros(1, 3, 4, 16, 16)
    passage = vae.encoding(16, 16)
    passage.push(frames[:, :, :1])
    sizes = []
    for _ in range(3):
        passage.push(frames)
        sizes.append(passage.nbytes)
    assert sizes[0] == sizes[1] == sizes[2] > 0
    passage.push(frames, last=True)
    assert passage.nbytes == 0


def test_a_convolution_keeps_no_more_than_the_frames_it_needs_again() -> None:
    memory, conv = Memory(), CausalConv3d(3, 4)
    conv(torch.zeros(1, 3, 9, 8, 8), memory)
    assert memory.nbytes == 2 * 3 * 8 * 8 * 4


@pytest.mark.parametrize("way", [{}, {"stride": (2, 2, 2), "padding": 0, "border": 1}], ids=["same size", "halving"])
def test_a_merged_convolution_multiplies_a_clips_first_frame_once_for_all_places_in_time(way: dict[str, Any]) -> None:
    plain, merged = CausalConv3d(5, 4, **way).double(), CausalConv3d(5, 4, **way).double()
    merged.load_state_dict(plain.state_dict())
    merged.merge()
    clip = torch.randn(1, 5, 5, 8, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    memories = Memory(), Memory()
    for part in clip.split([1, 4], dim=2):
        made, wanted = (conv(part, memory) for conv, memory in zip((merged, plain), memories, strict=True))
        torch.testing.assert_close(made, wanted, atol=1e-12, rtol=0)
        assert memories[0].nbytes == memories[1].nbytes
    first, later = clip[:, :, :1], clip[:, :, 1:]
    whole, once = (count(partial(conv, first, Memory())).flops for conv in (plain, merged))
    assert once == whole / 3
    seen = Memory()
    merged(first, seen)
    assert count(partial(merged, later, seen)).flops == pytest.approx(whole * (4 // plain.stride[0]))


def test_waiting_frames_do_not_keep_the_rest_of_their_portion() -> None:
    passage = Passage(lambda x, _memory: x, encoding_tiles(8, 8, None), step=4, channels=3)
    passage.push(torch.zeros(1, 3, 7, 8, 8))
    assert passage.nbytes == 2 * 3 * 8 * 8 * 4


def test_frames_wait_until_they_fill_a_latent_frame(vae: VideoVae) -> None:
    passage = vae.encoding(16, 16)
    made = [passage.push(torch.zeros(1, 3, count, 16, 16)).shape for count in (1, 3, 1)]
    assert made == [(1, 16, 1, 2, 2), (1, 16, 0, 2, 2), (1, 16, 1, 2, 2)]


def test_a_clip_that_ends_amid_a_latent_frame_is_refused(vae: VideoVae) -> None:
    with pytest.raises(ValueError, match="ends 2 frames into a slice of 4; pad it"):
        vae.encode(torch.zeros(1, 3, 7, 16, 16))


def test_sides_that_are_not_whole_latents_are_refused(vae: VideoVae) -> None:
    with pytest.raises(ValueError, match="20x16 pixels do not divide by 8"):
        vae.encode(torch.zeros(1, 3, 1, 16, 20))


@pytest.mark.parametrize("size", [8, 64, 512, 520, 576, 720, 1024, 1080, 2160, 4096])
@pytest.mark.parametrize(
    "tiling",
    [*(Tiling.square(side, side // 8) for side in (512, 768, 1024)), Tiling.square(48, 40), Tiling.square(8, 8)],
)
def test_tiles_cover_every_line_with_weights_that_add_up_to_one(size: int, tiling: Tiling) -> None:
    for tiles, scale in ((encoding_tiles(size, size, tiling), 8), (decoding_tiles(size, size, tiling), 1)):
        total = torch.zeros(size // scale)
        for span in tiles.rows:
            total[span.write] += span.weights
            assert span.read.stop - span.read.start <= tiling.tile[0] * scale // 8
        torch.testing.assert_close(total, torch.ones_like(total))


def test_a_frame_that_fits_one_tile_is_not_cut() -> None:
    tiles = decoding_tiles(512, 504, Tiling.square(512, 64))
    assert [len(tiles.rows), len(tiles.columns)] == [1, 1]


def test_the_norm_for_cuda_equals_torchs_own() -> None:
    frames = torch.randn(2, 16, 3, 20, 24, generator=torch.Generator().manual_seed(0)) * 3 + 5
    norm = FrameNorm(4, 16, 1e-6)
    norm.weight.data, norm.bias.data = torch.rand(2, 16, generator=torch.Generator().manual_seed(1))
    made = by_sums(frames, 4, norm.weight, norm.bias, 1e-6, torch.empty_like(frames))
    assert_near(made, norm(frames))


def test_keys_and_shapes_are_those_of_the_published_checkpoint() -> None:
    with torch.device("meta"):
        ours = {name: list(tensor.shape) for name, tensor in VideoVae(SEEDVR2_VAE).state_dict().items()}
    assert sum(torch.Size(shape).numel() for shape in ours.values()) == 250_648_227
    if not MANIFEST.exists():
        pytest.skip("no manifest here: counted only")
    manifest = json.loads(MANIFEST.read_text())["state_dict"]
    assert ours == {name: entry["shape"] for name, entry in manifest.items()}


@pytest.mark.parametrize("frames", [1, 2, 8])
def test_slices_of_any_length_give_the_same_latents_and_frames(vae: VideoVae, frames: int) -> None:
    """17 frames, so that the last slice is shorter than the others."""
    video = torch.rand(1, 3, 17, 16, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1
    latents = vae.encode(video)
    assert_near(vae.encode(video, None, frames), latents)
    assert_near(vae.decode(latents, None, frames), vae.decode(latents))


@pytest.mark.parametrize("frames", [1, 2, 8])
def test_where_slices_end_does_not_depend_on_how_a_clip_is_pushed(vae: VideoVae, frames: int) -> None:
    video = torch.rand(1, 3, 13, 16, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1
    latents = vae.encode(video, None, frames)
    passage = vae.encoding(16, 24, None, frames)
    pushed = [passage.push(part, last=index == 2) for index, part in enumerate(video.tensor_split([3, 12], dim=2))]
    assert torch.equal(torch.cat(pushed, dim=2), latents)
    passage = vae.decoding(16, 24, None, frames)
    pushed = [passage.push(part, last=index == 3) for index, part in enumerate(latents.split(1, dim=2))]
    assert torch.equal(torch.cat(pushed, dim=2), vae.decode(latents, None, frames))
    assert passage.nbytes == 0
