"""The catalogue against the public API's table, and what it takes for the default."""

from __future__ import annotations

from pathlib import Path

import pytest

from upres.catalog import MODELS, Catalog
from upres.catalog.flashvsr import FLASHVSR_MODELS
from upres.catalog.seedvr2 import SEEDVR2_MODELS, SEEDVR2_TEXT, SEEDVR2_VAE
from upres.errors import ModelNotFound

DOCUMENTED = """
seedvr2_ema_3b_fp16.safetensors | 3B | FP16 | 6.4GB | ~12GB
seedvr2_ema_3b_fp8_e4m3fn.safetensors | 3B | FP8 | 3.2GB | ~8GB
seedvr2_ema_3b-Q4_K_M.gguf | 3B | Q4 | 1.9GB | ~4GB
seedvr2_ema_3b-Q8_0.gguf | 3B | Q8 | 3.5GB | ~6GB
seedvr2_ema_7b_fp16.safetensors | 7B | FP16 | 16GB | ~24GB
seedvr2_ema_7b_fp8_e4m3fn.safetensors | 7B | FP8 | 7.7GB | ~16GB
seedvr2_ema_7b-Q4_K_M.gguf | 7B | Q4 | 4.5GB | ~8GB
seedvr2_ema_7b-Q8_0.gguf | 7B | Q8 | 8.3GB | ~12GB
seedvr2_ema_7b_sharp_fp16.safetensors | 7B Sharp | FP16 | 16GB | ~24GB
seedvr2_ema_7b_sharp_fp8_e4m3fn.safetensors | 7B Sharp | FP8 | 7.7GB | ~16GB
seedvr2_ema_7b_sharp-Q4_K_M.gguf | 7B Sharp | Q4 | 4.5GB | ~8GB
seedvr2_ema_7b_sharp-Q8_0.gguf | 7B Sharp | Q8 | 8.3GB | ~12GB
""".strip().splitlines()


def install(folder: Path, *names: str) -> Catalog:
    for name in names:
        (folder / name).touch()
    return Catalog(folder)


def test_seedvr2_is_described_to_the_letter_of_the_documented_table() -> None:
    assert [
        " | ".join((m.name, f"{m.params} {m.variant}".strip(), m.precision, m.size, m.vram)) for m in SEEDVR2_MODELS
    ] == DOCUMENTED


def test_the_documented_example_is_described_as_documented() -> None:
    model = next(m for m in MODELS if m.name == "seedvr2_ema_3b_fp8_e4m3fn.safetensors")
    assert model.variant == ""
    assert model.desc == {"en": "3B params FP8 - Balanced quality & speed ⭐Recommended",
                          "zh-CN": "3B参数 FP8 - 质量与速度平衡 ⭐推荐"}  # fmt: skip


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_every_model_has_a_factory_and_a_description_in_both_languages(model: object) -> None:
    assert callable(model.load_factory())  # type: ignore[attr-defined]
    assert set(model.desc) == {"en", "zh-CN"} and all(model.desc.values())  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("installed", "default"),
    [
        ((), "compact"),
        (("seedvr2_ema_7b_sharp_fp16.safetensors",), "seedvr2_ema_7b_sharp_fp16.safetensors"),
        (("seedvr2_ema_7b-Q4_K_M.gguf", "seedvr2_ema_3b-Q4_K_M.gguf"), "seedvr2_ema_3b-Q4_K_M.gguf"),
        (tuple(m.name for m in SEEDVR2_MODELS), "seedvr2_ema_3b_fp8_e4m3fn.safetensors"),
    ],
)
def test_the_default_is_the_documented_one_or_the_nearest_installed(
    tmp_path: Path, installed: tuple[str, ...], default: str
) -> None:
    catalog = install(tmp_path, SEEDVR2_VAE, SEEDVR2_TEXT, *installed)
    assert catalog.default().name == default == catalog.find(None).name == catalog.find("default").name


def test_every_model_can_be_the_default_when_it_is_alone(tmp_path: Path) -> None:
    for number, model in enumerate((*SEEDVR2_MODELS, FLASHVSR_MODELS[0])):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert install(folder, *model.files).default() is model


def test_a_transformer_without_its_other_parts_is_not_installed(tmp_path: Path) -> None:
    name = "seedvr2_ema_3b_fp16.safetensors"
    catalog = install(tmp_path, name, SEEDVR2_VAE)
    assert not any(info.installed for info in catalog.infos() if info.name == name)
    with pytest.raises(ModelNotFound, match=f"needs {SEEDVR2_TEXT} in MODEL_DIR; run `upres download {name}`"):
        catalog.find(name)
