"""Every model there is: its files, where they come from, what it needs and who builds it. No torch, no downloads."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upres.errors import ModelNotFound
from upres.models.limits import SEEDVR2, Limits
from upres.tasks import ModelInfo

# what each engine suits and why, for whoever has to choose
BEST_FOR = {
    "seedvr2": "footage and images that are badly damaged, compressed or old, where detail counts more than time: a "
               "diffusion transformer sees the frames of a shot together, at any size; the slowest",
    "flashvsr": "long video and clean or AI-generated clips, enlarged 2 to 4 times: one diffusion step on a stream of "
                "frames, by its authors' measure up to 12 times as fast as other one-step models; not for images",
    "compact": "a quick result, a preview, or a machine without a GPU: a small network that enlarges each frame by "
               "itself and invents no detail",
}  # fmt: skip
DEFAULT_NAMES = (None, "", "default")  # what a caller writes who does not choose


@dataclass(frozen=True, slots=True)
class Model:
    """`factory` is "module:function" (see models.restorer.Factory), imported only in the worker."""

    name: str
    architecture: str
    params: str
    precision: str
    size: str
    vram: str
    variant: str
    desc: dict[str, str]
    files: tuple[str, ...]
    limits: Limits
    factory: str
    pixels_per_s_cpu: float  # before anything was measured on this machine
    pixels_per_s_gpu: float

    def load_factory(self) -> Any:
        module, function = self.factory.split(":")
        return getattr(importlib.import_module(module), function)


COMPACT = Model(
    name="compact", architecture="compact", params="0.1M", precision="FP16", size="0.3MB", vram="~1GB", variant="",
    desc={"en": "embedded x2 convolution network: fast, modest, needs no download",
          "zh-CN": "内置 2 倍卷积网络：快速、效果适中、无需下载"},
    files=("compact_x2.safetensors",), limits=Limits(takes="source"),
    factory="upres.models.compact.restorer:load", pixels_per_s_cpu=2e6, pixels_per_s_gpu=2e8,
)  # fmt: skip


def _seedvr2(
    name: str, params: str, precision: str, size: str, vram: str, en: str, zh: str, *, variant: str = ""
) -> Model:
    """Names, sizes and memory are those of the public API's table; the three parts are the same for all."""
    return Model(
        name=name, architecture="seedvr2", params=params, precision=precision, size=size, vram=vram, variant=variant,
        desc={"en": en, "zh-CN": zh}, files=(name, SEEDVR2_VAE, SEEDVR2_TEXT), limits=SEEDVR2,
        factory=f"upres.models.seedvr2.restorer:load_{params.lower()}",
        pixels_per_s_cpu=2e4 if params == "3B" else 8e3, pixels_per_s_gpu=4e6 if params == "3B" else 2e6,
    )  # fmt: skip


SEEDVR2_VAE, SEEDVR2_TEXT = "ema_vae_fp16.safetensors", "seedvr2_pos_emb.safetensors"
SEEDVR2_MODELS = (
    _seedvr2("seedvr2_ema_3b_fp16.safetensors", "3B", "FP16", "6.4GB", "~12GB",
             "3B params FP16 - The small model as it was published", "3B参数 FP16 - 小模型原始精度"),
    _seedvr2("seedvr2_ema_3b_fp8_e4m3fn.safetensors", "3B", "FP8", "3.2GB", "~8GB",
             "3B params FP8 - Balanced quality & speed ⭐Recommended", "3B参数 FP8 - 质量与速度平衡 ⭐推荐"),
    _seedvr2("seedvr2_ema_3b-Q4_K_M.gguf", "3B", "Q4", "1.9GB", "~4GB",
             "3B params in 4 bits - For the smallest cards", "3B参数 4位 - 适合显存最小的显卡"),
    _seedvr2("seedvr2_ema_3b-Q8_0.gguf", "3B", "Q8", "3.5GB", "~6GB",
             "3B params in 8 bits - Close to FP16 at half the size", "3B参数 8位 - 体积减半，接近 FP16"),
    _seedvr2("seedvr2_ema_7b_fp16.safetensors", "7B", "FP16", "16GB", "~24GB",
             "7B params FP16 - The large model as it was published", "7B参数 FP16 - 大模型原始精度"),
    _seedvr2("seedvr2_ema_7b_fp8_e4m3fn.safetensors", "7B", "FP8", "7.7GB", "~16GB",
             "7B params FP8 - The large model at half the size", "7B参数 FP8 - 大模型，体积减半"),
    _seedvr2("seedvr2_ema_7b-Q4_K_M.gguf", "7B", "Q4", "4.5GB", "~8GB",
             "7B params in 4 bits - The large model on small cards", "7B参数 4位 - 小显存也能用大模型"),
    _seedvr2("seedvr2_ema_7b-Q8_0.gguf", "7B", "Q8", "8.3GB", "~12GB",
             "7B params in 8 bits - The large model, close to FP16", "7B参数 8位 - 大模型，接近 FP16"),
    _seedvr2("seedvr2_ema_7b_sharp_fp16.safetensors", "7B", "FP16", "16GB", "~24GB",
             "7B params Sharp FP16 - More detail, as published", "7B参数 锐化版 FP16 - 更多细节，原始精度",
             variant="Sharp"),
    _seedvr2("seedvr2_ema_7b_sharp_fp8_e4m3fn.safetensors", "7B", "FP8", "7.7GB", "~16GB",
             "7B params Sharp FP8 - More detail at half the size", "7B参数 锐化版 FP8 - 更多细节，体积减半",
             variant="Sharp"),
    _seedvr2("seedvr2_ema_7b_sharp-Q4_K_M.gguf", "7B", "Q4", "4.5GB", "~8GB",
             "7B params Sharp in 4 bits - More detail on small cards", "7B参数 锐化版 4位 - 小显存也有更多细节",
             variant="Sharp"),
    _seedvr2("seedvr2_ema_7b_sharp-Q8_0.gguf", "7B", "Q8", "8.3GB", "~12GB",
             "7B params Sharp in 8 bits - More detail, close to FP16", "7B参数 锐化版 8位 - 更多细节，接近 FP16",
             variant="Sharp"),
)  # fmt: skip

MODELS: tuple[Model, ...] = (*SEEDVR2_MODELS, COMPACT)
# The default is the first installed one: the API's own, then what is nearest to it, then what needs no download.
PREFERENCE: tuple[str, ...] = (
    "seedvr2_ema_3b_fp8_e4m3fn.safetensors", "seedvr2_ema_3b-Q8_0.gguf", "seedvr2_ema_3b_fp16.safetensors",
    "seedvr2_ema_3b-Q4_K_M.gguf", "seedvr2_ema_7b_fp8_e4m3fn.safetensors", "seedvr2_ema_7b-Q8_0.gguf",
    "seedvr2_ema_7b-Q4_K_M.gguf", "seedvr2_ema_7b_fp16.safetensors", "seedvr2_ema_7b_sharp_fp8_e4m3fn.safetensors",
    "seedvr2_ema_7b_sharp-Q8_0.gguf", "seedvr2_ema_7b_sharp-Q4_K_M.gguf", "seedvr2_ema_7b_sharp_fp16.safetensors",
    "compact",
)  # fmt: skip


def download_command(name: str) -> str:
    """What to run where a file of a model is missing or damaged: it fetches, checks and repairs."""
    return f"run `upres download {name}`"


class Catalog:
    """The models, looked for in the model directory first and then among the embedded weights."""

    def __init__(self, model_dir: Path) -> None:
        self._folders = (model_dir, embedded_weights())

    def find(self, name: str | None) -> Model:
        """An installed model by name. Raises ModelNotFound for an unknown name and for missing files."""
        if name in DEFAULT_NAMES:
            return self.default()
        for model in MODELS:
            if name == model.name:
                self.paths(model)
                return model
        raise ModelNotFound(f"no model {name!r}", remedy=f"installed: {', '.join(self.installed_names())}")

    def default(self) -> Model:
        """Raises ModelNotFound if not even the embedded weights are there."""
        for name in PREFERENCE:
            for model in MODELS:
                if model.name == name and self.installed(model):
                    return model
        raise ModelNotFound("no model is installed", remedy="reinstall Upres: the embedded weights are missing")

    def installed(self, model: Model) -> bool:
        return not self.missing(model)

    def installed_names(self) -> list[str]:
        return [model.name for model in MODELS if self.installed(model)]

    def paths(self, model: Model) -> tuple[Path, ...]:
        """The weights files. Raises ModelNotFound if one is missing."""
        missing = self.missing(model)
        if missing:
            remedy = "install Upres again" if model is COMPACT else download_command(model.name)
            raise ModelNotFound(f"model {model.name} needs {', '.join(missing)} in MODEL_DIR", remedy=remedy)
        return tuple(path for path in map(self._locate, model.files) if path is not None)

    def missing(self, model: Model) -> list[str]:
        return [file for file in model.files if self._locate(file) is None]

    def expected_pixels_per_s(self, name: str, *, on_gpu: bool) -> float:
        """Output pixels per second, before anything was measured here."""
        model = next((model for model in MODELS if model.name == name), COMPACT)
        return model.pixels_per_s_gpu if on_gpu else model.pixels_per_s_cpu

    def infos(self) -> tuple[ModelInfo, ...]:
        return tuple(
            ModelInfo(name=m.name, architecture=m.architecture, params=m.params, precision=m.precision, size=m.size,
                      vram=m.vram, variant=m.variant, desc=m.desc, best_for=BEST_FOR[m.architecture],
                      installed=self.installed(m), missing=tuple(self.missing(m)))
            for m in MODELS
        )  # fmt: skip

    def _locate(self, file: str) -> Path | None:
        return next((folder / file for folder in self._folders if (folder / file).is_file()), None)


def embedded_weights() -> Path:
    """`upres/weights/compact` in an installed package, `weights/compact` in a checkout."""
    installed = Path(__file__).parent / "weights" / "compact"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "weights" / "compact"
