"""The embedded model: any size to any size, frame by frame, and only from an exact weights file."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from upres.errors import WeightsInvalid
from upres.models.compact import restorer as compact
from upres.models.compact.checkpoint import read
from upres.models.compact.net import CompactConfig, CompactNet, enlarge, widen
from upres.models.compact.restorer import CompactRestorer, load, passes
from upres.models.restorer import StreamSpec

WEIGHTS = Path(__file__).parents[2] / "weights"
SHIPPED = WEIGHTS / "compact" / "compact_x2.safetensors"
GOLDEN = Path(__file__).parents[1] / "golden" / "compact"  # crops of tests/demo's clip at its original size, CC0
CPU = torch.device("cpu")
STEP = 2 / 255  # of 8 bits, in [-1, 1]


def spec(given: tuple[int, int], wanted: tuple[int, int], *, tiling: str = "auto", seed: int = 1) -> StreamSpec:
    return StreamSpec(*given, *wanted, seed=seed, window=1, tiling=tiling, tile_quality="high")  # type: ignore[arg-type]


@pytest.fixture
def tiny() -> CompactRestorer:
    """Random weights, large enough that every pixel within reach counts."""
    torch.manual_seed(0)
    return CompactRestorer(CompactNet(CompactConfig(channels=8, depth=4)).requires_grad_(False), CPU, torch.float32)


@pytest.fixture(scope="module")
def shipped() -> CompactRestorer:
    return CompactRestorer(read(SHIPPED), CPU, torch.float32)


def noise(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(3)) * 2 - 1


def run(restorer: CompactRestorer, order: StreamSpec, frames: Tensor) -> Tensor:
    return torch.cat(list(restorer.open(order).push(frames)))


SIZES = [((17, 23), (34, 46)), ((17, 23), (51, 71)), ((17, 23), (20, 31)), ((17, 23), (17, 23)), ((40, 30), (11, 9)),
         ((5, 7), (64, 91)), ((1, 1), (3, 3))]  # fmt: skip


@pytest.mark.parametrize(("given", "wanted"), SIZES)
def test_frames_come_out_in_exactly_the_target_size(
    tiny: CompactRestorer, given: tuple[int, int], wanted: tuple[int, int]
) -> None:
    output = run(tiny, spec(given, wanted), noise(2, 3, *given))
    assert output.shape == (2, 3, *wanted)
    assert output.dtype == torch.float32
    assert bool(torch.isfinite(output).all())


@pytest.mark.parametrize(("side", "times"), [(5, 1), (10, 1), (20, 1), (21, 2), (40, 2), (41, 3), (80, 3), (200, 3)])
def test_a_frame_is_doubled_at_least_once_and_at_most_three_times(side: int, times: int) -> None:
    assert passes(spec((10, 10), (side, side))) == times


def test_chunks_change_nothing_and_order_is_kept(tiny: CompactRestorer) -> None:
    frames, order = noise(5, 3, 12, 16), spec((12, 16), (24, 32))
    stream = tiny.open(order)
    chunked = [frame for part in frames.split([2, 1, 2]) for frame in (*stream.push(part), *stream.flush())]
    assert torch.equal(torch.cat(chunked), run(tiny, order, frames))
    assert torch.equal(chunked[3], run(tiny, order, frames[3:4]))


def test_frames_of_another_size_are_refused(tiny: CompactRestorer) -> None:
    with pytest.raises(ValueError, match=r"\(1, 3, 12, 17\).*opened for T 3 12 16"):
        list(tiny.open(spec((12, 16), (24, 32))).push(noise(1, 3, 12, 17)))


@pytest.mark.parametrize("wanted", [(140, 182), (200, 260)])
def test_tiles_give_the_whole_picture(
    tiny: CompactRestorer, monkeypatch: pytest.MonkeyPatch, wanted: tuple[int, int]
) -> None:
    frame = noise(1, 3, 70, 91)
    whole = run(tiny, spec((70, 91), wanted, tiling="off"), frame)
    monkeypatch.setitem(compact.TILE, "cpu", 24)
    for tiling in ("on", "auto"):
        assert torch.allclose(run(tiny, spec((70, 91), wanted, tiling=tiling), frame), whole, atol=1e-5)


@pytest.mark.parametrize(("tiling", "tiles"), [("on", 3 * 4), ("auto", 3 * 4), ("off", 1)])
def test_the_network_sees_a_large_frame_tile_by_tile(
    tiny: CompactRestorer, monkeypatch: pytest.MonkeyPatch, tiling: str, tiles: int
) -> None:
    monkeypatch.setitem(compact.TILE, "cpu", 24)
    seen: list[int] = []
    tiny.net.register_forward_pre_hook(lambda _, inputs: seen.append(max(inputs[0].shape[-2:])))
    run(tiny, spec((70, 91), (140, 182), tiling=tiling), noise(1, 3, 70, 91))
    assert len(seen) == tiles
    assert max(seen) == (24 if tiles > 1 else 91) + 2 * tiny.net.config.reach


@pytest.mark.parametrize("inside", [True, False])
def test_reach_is_how_far_a_pixel_matters(tiny: CompactRestorer, inside: bool) -> None:
    net, middle = tiny.net.double(), 20
    distance = net.config.reach + (0 if inside else 1)
    frame = noise(1, 3, 2 * middle + 1, 2 * middle + 1).double()
    other = frame.clone()
    other[..., middle - distance, middle - distance] += 0.5
    here = (..., *[slice(2 * (middle - net.config.reach), 2 * (middle - net.config.reach) + 2)] * 2)
    assert torch.equal(net.detail(frame)[here], net.detail(other)[here]) is not inside


def test_the_seed_changes_nothing(tiny: CompactRestorer) -> None:
    frame = noise(1, 3, 12, 16)
    assert torch.equal(*(run(tiny, spec((12, 16), (24, 32), seed=seed), frame) for seed in (1, 2)))


def test_the_factory_loads_what_ships() -> None:
    restorer = load((SHIPPED,), CPU)
    assert restorer.limits.takes == "source"
    assert restorer.net.config == CompactConfig()
    assert run(restorer, spec((16, 16), (32, 32)), noise(1, 3, 16, 16)).shape == (1, 3, 32, 32)


def test_the_manifest_names_the_file_that_ships() -> None:
    (entry,) = json.loads((WEIGHTS / "manifest.json").read_text())["files"]
    content = (WEIGHTS / entry["name"]).read_bytes()
    assert entry["name"] == "compact/compact_x2.safetensors"
    assert (entry["bytes"], entry["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("name", ["city_05.png", "city_45.png"])
@pytest.mark.parametrize(("width", "height", "lead_db"), [(240, 200, 0.8), (181, 151, 0.8)])
def test_halved_frames_come_back_better_than_with_lanczos(
    shipped: CompactRestorer, name: str, width: int, height: int, lead_db: float
) -> None:
    with Image.open(GOLDEN / name) as picture:
        original = picture.convert("RGB")
    small = original.resize((120, 100), Image.Resampling.BOX)
    wanted = tensor(original.resize((width, height), Image.Resampling.BICUBIC))
    found = run(shipped, spec((100, 120), (height, width)), tensor(small))
    lanczos = tensor(small.resize((width, height), Image.Resampling.LANCZOS))
    assert psnr_y(found, wanted) > psnr_y(lanczos, wanted) + lead_db


def tensor(picture: Image.Image) -> Tensor:
    """1 3 H W, float32, [-1, 1]."""
    return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1


def psnr_y(found: Tensor, wanted: Tensor) -> float:
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    error = ((found.clamp(-1, 1) - wanted) * weights).sum(1).square().mean()
    return 10 * math.log10(4 / float(error))


@pytest.mark.parametrize("level", [-1.0, -0.3, 0.5, 1.0])
def test_a_flat_picture_stays_flat(shipped: CompactRestorer, level: float) -> None:
    output = run(shipped, spec((24, 24), (48, 48)), torch.full((1, 3, 24, 24), level))
    assert float((output - level).abs().max()) < STEP / 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_harshest_pictures_give_finite_ones(dtype: torch.dtype) -> None:
    restorer = CompactRestorer(read(SHIPPED), CPU, dtype)
    board = (torch.arange(20).view(1, 1, 20, 1) + torch.arange(20)) % 2 * 2.0 - 1
    frames = torch.cat([board.expand(1, 3, 20, 20), noise(1, 3, 20, 20).sign()])
    output = run(restorer, spec((20, 20), (160, 160)), frames)
    assert bool(torch.isfinite(output).all())
    assert float(output.abs().max()) < 5


def test_bfloat16_is_the_same_picture_but_for_a_tenth_of_a_step(shipped: CompactRestorer) -> None:
    frame, order = tensor(Image.open(GOLDEN / "city_05.png")), spec((200, 240), (400, 480))
    half = CompactRestorer(read(SHIPPED), CPU, torch.bfloat16)
    error = (run(half, order, frame) - run(shipped, order, frame)).abs()
    assert float(error.mean()) < STEP / 10
    assert float(error.max()) < 3 * STEP


def test_half_precision_touches_the_added_detail_only(tiny: CompactRestorer) -> None:
    net = CompactNet(tiny.net.config).requires_grad_(False)
    net.tail.weight.zero_()
    net.tail.bias.zero_()  # type: ignore[union-attr]
    frame = noise(1, 3, 12, 16)
    output = run(CompactRestorer(net, CPU, torch.bfloat16), spec((12, 16), (24, 32)), frame)
    assert torch.equal(output, enlarge(widen(frame, 2))[..., 4:-4, 4:-4])


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    path = tmp_path / "any name"
    save_file(CompactNet(CompactConfig(channels=4, depth=2)).state_dict(), path)
    return path


def test_the_configuration_is_read_off_the_shapes(stored: Path) -> None:
    assert read(stored).config == CompactConfig(channels=4, depth=2)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tail.bias": None}, "1 missing keys, first tail.bias"),
        ({"head.bias": None, "body.0.first.bias": None}, "2 missing keys, first body.0.first.bias, head.bias"),
        ({"extra": torch.zeros(1)}, "1 unknown keys, first extra"),
        ({"tail.weight": torch.zeros(12, 4, 3, 1)}, r"1 wrong shapes, first tail.weight \[12, 4, 3, 1\] instead of"),
        ({"head.weight": None}, r"not a compact network: head.weight has shape \[\]"),
        ({"tail.bias": torch.full((12,), float("nan"))}, "tail.bias is not all finite numbers"),
        ({"tail.bias": torch.zeros(12, dtype=torch.int32)}, "tail.bias is not all finite numbers"),
    ],
)
def test_a_file_that_does_not_fit_exactly_is_refused(stored: Path, change: dict[str, Tensor | None], says: str) -> None:
    changed = load_file(stored) | change
    save_file({key: value for key, value in changed.items() if value is not None}, stored)
    with pytest.raises(WeightsInvalid, match=f"^any name: .*{says}") as raised:
        read(stored)
    assert raised.value.remedy


@pytest.mark.parametrize("left", [0, 4, 100, 0.5, 0.99])
def test_a_truncated_file_is_refused(stored: Path, left: float) -> None:
    content = stored.read_bytes()
    stored.write_bytes(content[: int(left * len(content)) if 0 < left < 1 else int(left)])
    with pytest.raises(WeightsInvalid, match="any name: not a readable safetensors file"):
        read(stored)


def test_a_missing_file_and_a_wrong_number_of_files_are_refused(stored: Path) -> None:
    with pytest.raises(WeightsInvalid, match="absent: not a readable"):
        load((stored.with_name("absent"),), CPU)
    for files in ((), (stored, stored)):
        with pytest.raises(WeightsInvalid, match=f"one weights file, got {len(files)}"):
            load(files, CPU)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_gives_the_picture_of_the_cpu_within_one_step(shipped: CompactRestorer) -> None:
    frame, order = tensor(Image.open(GOLDEN / "city_05.png")), spec((200, 240), (400, 480))
    output = run(load((SHIPPED,), torch.device("cuda")), order, frame.cuda()).cpu()
    assert float((output - run(shipped, order, frame)).abs().max()) < STEP
