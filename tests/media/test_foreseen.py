"""What the dry run says of a file's size is what comes out, whatever the input's shape and the order's options."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.contract.judge import Enlarger
from tests.media.clips import ffmpeg
from upres.catalog import Catalog
from upres.disk import Disk
from upres.errors import UpresError
from upres.forecast import Machine, forecast
from upres.forecast_values import Forecast, MediaFacts
from upres.media.probe import probe
from upres.queue.throughput import Times
from upres.restore.pipeline import restore
from upres.tasks import FLASHVSR_API, TaskSpec, order

SHORT = st.integers(16, 90)
SIDE = st.integers(16, 150)
SIZES = st.one_of(
    st.builds(lambda side: {"resolution": side}, SHORT),
    st.builds(lambda side, longest: {"resolution": side, "max_side": longest}, SHORT, SIDE),
    st.builds(lambda scale: {"scale": scale}, st.floats(1, 2.5)),
    st.builds(lambda side: {"width": side}, SIDE),
    st.builds(lambda side: {"height": side}, SHORT),
    st.builds(lambda width, height, fit: {"width": width, "height": height, "fit": fit},
              SIDE, SHORT, st.sampled_from(["bars", "crop", "stretch"])),
    st.builds(lambda width, kept: {**FLASHVSR_API, "preprocess_width": width, "preserve_aspect_ratio": kept},
              st.integers(128, 150), st.booleans()),
)  # fmt: skip
WRITTEN = st.sampled_from([{}, {"codec": "ffv1"}, {"output_format": "mkv"}, {"output_format": "zip"}])
ASPECTS = st.sampled_from(["1", "4/3", "8/9", "64/45", "2/1"])


def clip(folder: Path, size: str, aspect: str, turned: int) -> Path:
    picture = f"color=gray:s={size}:r=24,format=yuv444p,setsar={aspect}"
    ffmpeg("-f", "lavfi", "-i", picture, "-frames:v", "2", "-c:v", "libx264", "-preset", "ultrafast",
           folder / "upright.mp4")  # fmt: skip
    ffmpeg("-display_rotation", str(turned), "-i", folder / "upright.mp4", "-c", "copy", folder / "in.mp4")
    return folder / "in.mp4"


def foreseen(spec: TaskSpec, path: Path) -> Forecast:
    """By the facts as they travel to a server that has no such file."""
    facts = MediaFacts.model_validate(json.loads(MediaFacts.of(probe(path)).model_dump_json()))
    machine = Machine("CPU", False, 1000, 1 << 30, Disk(10**12, 10**12, True, 0), 0.0, 3600.0)
    return forecast(facts, spec, Catalog(path.parent), lambda *_: Times(), machine)


@settings(max_examples=8, deadline=None, phases=[Phase.explicit, Phase.generate],
          suppress_health_check=[HealthCheck.too_slow])  # fmt: skip
@given(st.integers(9, 70), st.integers(9, 70), ASPECTS, st.sampled_from([0, 90, 180, 270]), SIZES, WRITTEN)
def test_the_size_foreseen_is_the_size_that_comes_out(
    width: int, height: int, aspect: str, turned: int, size: dict[str, object], written: dict[str, object]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = clip(Path(name), f"{width}x{height}", aspect, turned)
        spec = order(input_path=str(path), **{"color_correction": "none", **size, **written, "kind": "video"})
        try:
            promised = foreseen(spec, path)
        except UpresError as refusal:
            with pytest.raises(type(refusal), match=re.escape(refusal.message)) as same:
                restore(spec, Enlarger(), Path(name) / "out.part", lambda _: None)
            assert str(same.value) == str(refusal)
            return
        outcome = restore(spec, Enlarger(), Path(name) / "out.part", lambda _: None)
        assert (promised.width, promised.height, promised.frames) == (
            outcome.size.width, outcome.size.height, outcome.frames)  # fmt: skip
        if outcome.suffix != ".zip":
            (Path(name) / "out.part").rename(Path(name) / f"out{outcome.suffix}")
            found = probe(Path(name) / f"out{outcome.suffix}")
            assert (found.width, found.height, found.frames) == (promised.width, promised.height, promised.frames)


@pytest.mark.parametrize("name", ["odd.png", "odd.jpg"])
def test_the_size_foreseen_of_an_image_is_the_one_that_comes_out(name: str, tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "color=gray:s=37x23", "-frames:v", "1", "-update", "1", tmp_path / name)
    for size in ({"resolution": 71}, {"scale": 1.7}, {"width": 99, "height": 99}, {"width": 99},
                 {"scale": 8, "max_side": 64}):  # fmt: skip
        spec = order(input_path=str(tmp_path / name), color_correction="none", **size)
        outcome = restore(spec, Enlarger(), tmp_path / "out.part", lambda _: None)
        promised = foreseen(spec, tmp_path / name)
        assert (promised.width, promised.height) == (outcome.size.width, outcome.size.height), size


def test_the_dry_run_refuses_what_submit_refuses(tmp_path: Path) -> None:
    path = clip(tmp_path, "64x48", "1", 0)
    for bad in ({"codec": "prores", "output_format": "mp4"}, {"codec": "ffv1", "crf": 3}, {"width": 255, "height": 191},
                {"codec": "h264", "bit_depth": 16}, {"output_path": str(tmp_path / "a.gif")}):  # fmt: skip
        with pytest.raises(UpresError) as refused:
            foreseen(order(input_path=str(path), **bad), path)
        assert refused.value.code == "invalid_parameter" and refused.value.remedy
