"""Colour correction against recorded vectors, and what must hold for any picture."""

from pathlib import Path
from typing import get_args

import pytest
import torch
from safetensors.torch import load_file

from upres.errors import InvalidParameter
from upres.restore.color import correct
from upres.restore.colorspace import rgb_to_lab
from upres.tasks import ColorCorrection

GOLDEN = Path(__file__).parents[2] / "golden" / "seedvr2" / "color_72x96.safetensors"
MODES = get_args(ColorCorrection)
# fraction of pixels that move by more than 1e-4 when the recorded input moves by 1e-6
SENSITIVITY = {"lab": 0.00304, "wavelet_adaptive": 0.00041, "hsv": 0.00063}


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    return load_file(GOLDEN)


def pair(frames: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(height * width)
    restored = torch.rand(frames, 3, height, width, generator=generator) * 2.4 - 1.2
    return restored, (restored * 0.7 + 0.1).clamp(-1, 1).flip(-1)


@pytest.mark.parametrize("mode", ["wavelet", "adain"])
def test_smooth_corrections_equal_the_recorded_pixels(golden: dict[str, torch.Tensor], mode: ColorCorrection) -> None:
    wanted = golden[f"out.{mode}"]  # of the first frame: these modes take each by itself
    out = correct(mode, golden["in.content"], golden["in.style"])
    torch.testing.assert_close(out[: len(wanted)], wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("mode", sorted(SENSITIVITY))
def test_rank_corrections_equal_the_recorded_pixels_wherever_no_two_pixels_tie(
    golden: dict[str, torch.Tensor], mode: ColorCorrection
) -> None:
    out = correct(mode, golden["in.content"], golden["in.style"])
    off = (out - golden[f"out.{mode}"]).abs() > 1e-4
    tied = golden["in.content"].amin(1, keepdim=True) <= -1  # fully saturated: the recording ordered these at random
    counted = torch.ones_like(off) if mode == "lab" else ~tied.expand_as(off)
    assert counted.float().mean() > 0.8
    assert off[counted].float().mean() <= SENSITIVITY[mode]


def test_half_precision_frames_keep_their_dtype_and_stay_within_its_rounding(golden: dict[str, torch.Tensor]) -> None:
    out = correct("wavelet", golden["in.content"][:1].bfloat16(), golden["in.style"][:1])
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), golden["out_bf16.wavelet"].float(), atol=2**-7, rtol=0)


@pytest.mark.parametrize("mode", MODES)
def test_a_picture_that_equals_its_source_is_left_alone(mode: ColorCorrection) -> None:
    picture = pair(2, 40, 48)[1]
    torch.testing.assert_close(correct(mode, picture, picture), picture, atol=2e-4, rtol=0)


@pytest.mark.parametrize("mode", MODES)
def test_neither_input_is_changed(mode: ColorCorrection) -> None:
    restored, source = pair(2, 24, 32)
    before = restored.clone(), source.clone()
    correct(mode, restored, source)
    assert torch.equal(restored, before[0])
    assert torch.equal(source, before[1])


@pytest.mark.parametrize("mode", ["lab", "wavelet", "wavelet_adaptive", "hsv"])
def test_overshoot_is_clamped_into_range(mode: ColorCorrection) -> None:
    restored, source = pair(1, 24, 32)
    out = correct(mode, restored * 2, source)
    assert out.abs().max() <= 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(1, 1, 1), (1, 1, 7), (1, 5, 1), (3, 2, 2), (1, 90, 160)])
def test_any_number_and_size_of_frames_gives_finite_pixels_of_the_same_shape(
    mode: ColorCorrection, size: tuple[int, int, int]
) -> None:
    restored, source = pair(*size)
    out = correct(mode, restored, source)
    assert out.shape == restored.shape
    assert out.isfinite().all()


def test_equal_pixels_stay_equal_under_a_noisy_source() -> None:
    restored, source = pair(1, 64, 96)
    restored[..., :48] = torch.tensor([0.9, -1.0, -0.2]).view(3, 1, 1)
    area = correct("hsv", restored, source)[..., :48].flatten(2)
    assert torch.equal(area.amin(-1), area.amax(-1))
    assert (area[0, 1] + 1).min() > 0.01  # and they did change


def test_lab_gives_the_chroma_histogram_of_the_source() -> None:
    source = pair(2, 32, 40)[1] * 0.2
    out = correct("lab", pair(2, 32, 40)[0] * 0.1, source)
    for axis in (1, 2):
        ours, wanted = (rgb_to_lab((x + 1) / 2)[axis].flatten().sort().values for x in (out, source))
        torch.testing.assert_close(ours, wanted, atol=5e-2, rtol=0)


def test_adain_moves_mean_and_spread_to_the_source() -> None:
    restored, source = pair(2, 32, 40)
    out = correct("adain", restored, source)
    torch.testing.assert_close(out.mean((-2, -1)), source.mean((-2, -1)), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.std((-2, -1)), source.std((-2, -1)), atol=1e-4, rtol=0)


def test_wavelet_takes_the_colour_of_a_flat_source_and_keeps_the_detail() -> None:
    detail = torch.zeros(1, 3, 64, 64)
    detail[..., ::2] = 0.1
    out = correct("wavelet", detail, torch.full_like(detail, 0.5))
    middle = out[..., 30:34, 30:34]
    torch.testing.assert_close(middle.mean(), torch.tensor(0.5), atol=1e-3, rtol=0)
    torch.testing.assert_close(middle[..., 0] - middle[..., 1], torch.full((1, 3, 4), 0.1), atol=1e-3, rtol=0)


def test_an_unknown_mode_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidParameter, match=r"'sepia' is unknown; use one of lab, wavelet"):
        correct("sepia", *pair(1, 4, 4))  # type: ignore[arg-type]


def test_a_source_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="resize the source"):
        correct("lab", pair(1, 4, 4)[0], pair(1, 4, 6)[1])
