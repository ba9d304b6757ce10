"""Weights that come and go, and clips that outlive a card which is too small for them: one that only counts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.meter import Meter
from tests.seedvr2_recorded import tensors, tiny_dit
from upres.errors import OutOfMemory
from upres.models.kernels import switch
from upres.models.placement import AT_ONCE, Placement
from upres.models.restorer import Restorer, Stream, StreamSpec
from upres.models.seedvr2.config import TINY_VAE
from upres.models.seedvr2.parts import Parts
from upres.models.seedvr2.restorer import SeedVr2Restorer
from upres.models.seedvr2.vae import VideoVae
from upres.restore.descent import Descent
from upres.restore.frames import open_stream, restored_pixels
from upres.restore.memory import Ladder, Work
from upres.restore.pipeline import restore
from upres.restore.plan import Size, plan_clip
from upres.tasks import TaskSpec

pytestmark = pytest.mark.usefixtures("small_tensors")

CPU = torch.device("cpu")
KEPT = 32_000  # bytes: what blocks remember of the time embedding
WIDE = 1056  # pixels: more than the widest tile


@pytest.fixture
def parts() -> Parts:
    with torch.inference_mode(False):  # as a worker loads them
        vae = VideoVae(TINY_VAE)
        vae.load_state_dict(tensors("vae_tiny_weights"))
        text = tensors("dit_3b_tiny_small_detail")["in.txt"]
        return Parts(tiny_dit("3b"), vae.eval(), text, torch.float32)


def clip(frames: int, width: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    still = torch.rand(1, 3, 32, width, generator=generator)
    return still + 0.05 * torch.rand(frames, 3, 32, width, generator=generator)


def through(owner: Restorer, frames: Tensor, placement: Placement) -> Tensor:
    stream = owner.open(StreamSpec(32, 32, 32, 32, 1, 5, "auto", "high", placement=placement))
    return torch.cat([*stream.push(frames), *stream.flush()])


def test_weights_moved_or_streamed_give_the_same_bits_in_any_order(parts: Parts) -> None:
    owner, frames = SeedVr2Restorer(parts, CPU), clip(6)
    resident = through(owner, frames, AT_ONCE)
    for way in ("blocks", "phases", "none", "blocks"):
        assert torch.equal(through(owner, frames, Placement(way)), resident), way  # type: ignore[arg-type]


def test_no_more_is_on_the_device_than_the_network_that_computes_or_two_of_its_blocks(parts: Parts) -> None:
    owner, weights = SeedVr2Restorer(parts, CPU), SeedVr2Restorer(parts, CPU).footprint.weights
    latents = torch.zeros(2, 4, 4, 16)
    owner.parts.restore_latents(latents, (latents, latents))  # what is kept for a size is kept from here on
    with Meter() as meter:
        shelf = owner._shelf
        shelf.arrange("phases")
        assert meter.live_bytes == 0
        outside = meter.live_bytes
        owner.parts.restore_latents(latents, (latents, latents))
        assert 0 <= meter.live_bytes - outside - weights.blocks - weights.rest < KEPT
        owner.parts.decode(latents, None)
        assert 0 <= meter.live_bytes - outside - weights.decoder < KEPT

        shelf.arrange("blocks")
        there = []
        for block in owner.parts.dit.blocks:
            block.attn.register_forward_pre_hook(lambda *_: there.append(meter.live_bytes))
        before = meter.live_bytes
        owner.parts.restore_latents(latents, (latents, latents))
        assert meter.live_bytes - before < weights.rest + KEPT, "no block stays"
        for block in owner.parts.dit.blocks:
            block.attn._forward_pre_hooks.clear()
        shelf.arrange("none")
    assert max(there) - before <= weights.rest + 2 * weights.largest_block + 100_000
    assert max(there) - before < weights.blocks, "all of them would be more"


def test_a_network_that_could_not_be_fetched_is_fetched_the_next_time(parts: Parts) -> None:
    owner, frames = SeedVr2Restorer(parts, CPU), clip(1)
    expected = through(owner, frames, AT_ONCE)
    for way in ("phases", "blocks"):
        with Meter(limit_bytes=600_000), pytest.raises(torch.OutOfMemoryError):
            through(owner, frames, Placement(way))  # type: ignore[arg-type]
        assert torch.equal(through(owner, frames, Placement(way)), expected)  # type: ignore[arg-type]
    through(owner, frames, AT_ONCE)


EXHAUSTED = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has …")


@pytest.mark.parametrize("device", ["cpu", "cpu:0"])
def test_weights_that_are_on_the_device_are_not_moved_however_it_is_named(parts: Parts, device: str) -> None:
    owner = SeedVr2Restorer(parts, torch.device(device))
    places = [tensor.data_ptr() for tensor in parts.vae.parameters()]
    owner.open(StreamSpec(16, 32, 16, 32, 1, 5, "auto", "high"))
    assert [tensor.data_ptr() for tensor in parts.vae.parameters()] == places


class Frail:
    """A restorer whose stream runs out of memory at the given frame, as often as told; it brightens frames."""

    def __init__(self, owner: SeedVr2Restorer, at: int, times: int, error: Exception = EXHAUSTED) -> None:
        self.error = error
        self.limits, self.device, self.footprint = owner.limits, CPU, owner.footprint
        self.at, self.left = at, times
        self.specs: list[StreamSpec] = []

    def open(self, spec: StreamSpec) -> Stream:
        self.specs.append(spec)
        return FrailStream(self)


class FrailStream:
    def __init__(self, owner: Frail) -> None:
        self.owner, self.seen, self.held = owner, 0, []

    def push(self, frames: Tensor):  # type: ignore[no-untyped-def]
        for frame in frames:
            self.seen += 1
            self.held.append(frame)
            if self.seen == self.owner.at and self.owner.left:
                self.owner.left -= 1
                raise self.owner.error
            if len(self.held) == 3:
                yield torch.stack(self.held) * 0.5
                self.held = []

    def flush(self):  # type: ignore[no-untyped-def]
        if self.held:
            yield torch.stack(self.held) * 0.5


def run(owner: Restorer, frames: Tensor, room: int | None) -> tuple[Tensor, Descent]:
    spec = TaskSpec(input_path="x", resolution=32, color_correction="none")
    plan = plan_clip(Size(*frames.shape[-2:]), len(frames), "video", spec, owner.limits)
    descent = Descent(Work(plan, "auto", "high", "none"), owner, room)
    stream = open_stream(plan, spec, owner, descent)
    return torch.cat(list(restored_pixels(frames.split(5), plan, spec, owner, stream=stream))), descent


@pytest.mark.parametrize("at", [1, 7, 12])
def test_a_clip_goes_on_one_step_lower_where_memory_ran_out_and_says_so(parts: Parts, at: int) -> None:
    owner, frames = SeedVr2Restorer(parts, CPU), clip(12, WIDE)
    whole, _ = run(Frail(owner, at, 0), frames, None)
    frail = Frail(owner, at, 1)
    out, descent = run(frail, frames, None)
    assert torch.equal(out, whole), "every frame once, in order"
    assert [spec.placement for spec in frail.specs] == [AT_ONCE, Placement(slice_frames=2)]
    given_back = (at - 1) // 3 * 3
    (warning,) = descent.warnings
    assert warning.startswith(f"memory: ran out at frame {given_back}, went on with whole frames, all weights")
    assert "slices of 2" in warning


@pytest.mark.parametrize("room", [None, 10**9])
def test_a_clip_goes_on_with_plain_kernels_where_a_fused_one_cannot_be_compiled_and_says_so(
    parts: Parts, room: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    owner, frames = SeedVr2Restorer(parts, CPU), clip(12, WIDE)
    whole, _ = run(Frail(owner, 1, 0), frames, room)
    frail = Frail(owner, 7, 1, switch.KernelFailed("rows.gated failed: no C compiler"))
    out, descent = run(frail, frames, room)
    assert torch.equal(out, whole), "every frame once, in order"
    assert [spec.placement for spec in frail.specs] == [AT_ONCE, AT_ONCE]
    assert descent.warnings == ["kernels: rows.gated failed: no C compiler; went on with plain ones"]
    assert "no C compiler; going on with plain ones" in caplog.text
    assert switch.use("plain") == "plain"


def test_after_two_steps_down_the_task_fails_and_says_what_to_do(parts: Parts) -> None:
    frail = Frail(SeedVr2Restorer(parts, CPU), 7, 3)
    with pytest.raises(OutOfMemory, match=r"out of device memory at frame \d+ \(.*\): CUDA out of memory. Tried to "
                                          r"allocate 2.00 GiB.; use a smaller") as caught:  # fmt: skip
        run(frail, clip(12, WIDE), None)
    assert len(frail.specs) == 3 and "\n" not in str(caught.value)


def test_on_a_card_that_is_smaller_than_was_said_a_real_clip_comes_through_lower_down(parts: Parts) -> None:
    owner, frames = SeedVr2Restorer(parts, CPU), clip(9)
    room = 10_000_000
    with Meter() as free:
        whole, at_once = run(owner, frames, room)
    assert at_once.warnings == []
    with Meter(limit_bytes=free.peak_bytes * 95 // 100) as meter:
        out, descent = run(owner, frames, room)
    assert meter.peak_bytes < free.peak_bytes
    assert out.shape == whole.shape and out.isfinite().all()
    assert descent.warnings and all(warning.startswith("memory: ran out at frame ") for warning in descent.warnings)


def test_what_does_not_fit_as_a_whole_is_done_in_tiles_or_refused_and_the_result_says_so(
    parts: Parts, tmp_path: Path
) -> None:
    owner = SeedVr2Restorer(parts, CPU)
    Image.new("RGB", (600, 16), (40, 90, 160)).save(tmp_path / "in.png")
    order = TaskSpec(input_path=str(tmp_path / "in.png"), resolution=16)
    plan = plan_clip(Size(16, 600), 1, "image", order, owner.limits)
    steps = Ladder(owner.footprint, Work(plan, "auto", "high", "lab"), 0, on_gpu=False).steps

    def warnings(room: int) -> tuple[str, ...]:
        return restore(order, owner, tmp_path / "out.png", lambda progress: None, room_bytes=room).warnings

    assert warnings(steps[0].peak) == ()
    (tiled,) = warnings(steps[0].peak - 1)
    assert tiled.startswith("memory: tiles of 512, all weights on the device, slices of 4, windows of 5")
    (tmp_path / "out.png").unlink()
    refusal = r"600x16 needs \d+ MB of device memory at the least, 5 are there; use a smaller"
    with pytest.raises(OutOfMemory, match=refusal):
        warnings(5_000_000)
    assert not (tmp_path / "out.png").exists()
