"""SeedVR2's entries: names, sizes and descriptions are those of the public API's table."""

from __future__ import annotations

from upres.catalog.model import Model
from upres.models.limits import SEEDVR2

SEEDVR2_VAE, SEEDVR2_TEXT = "ema_vae_fp16.safetensors", "seedvr2_pos_emb.safetensors"


def _seedvr2(
    name: str, params: str, precision: str, size: str, vram: str, en: str, zh: str, *, variant: str = ""
) -> Model:
    """The three parts are the same for all."""
    return Model(
        name=name, architecture="seedvr2", params=params, precision=precision, size=size, vram=vram, variant=variant,
        desc={"en": en, "zh-CN": zh}, files=(name, SEEDVR2_VAE, SEEDVR2_TEXT), limits=SEEDVR2,
        factory=f"upres.models.seedvr2.restorer:load_{params.lower()}",
        # 82 and about 100 TFLOP a frame of 1080p, of which a core does some 0.08 a second
        pixels_per_s_core=2e3 if params == "3B" else 1.6e3, pixels_per_s_gpu=4e6 if params == "3B" else 2e6,
    )  # fmt: skip


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

# Which is the default where several are installed: the API's own, then what is nearest to it.
SEEDVR2_PREFERENCE = (
    "seedvr2_ema_3b_fp8_e4m3fn.safetensors", "seedvr2_ema_3b-Q8_0.gguf", "seedvr2_ema_3b_fp16.safetensors",
    "seedvr2_ema_3b-Q4_K_M.gguf", "seedvr2_ema_7b_fp8_e4m3fn.safetensors", "seedvr2_ema_7b-Q8_0.gguf",
    "seedvr2_ema_7b-Q4_K_M.gguf", "seedvr2_ema_7b_fp16.safetensors", "seedvr2_ema_7b_sharp_fp8_e4m3fn.safetensors",
    "seedvr2_ema_7b_sharp-Q8_0.gguf", "seedvr2_ema_7b_sharp-Q4_K_M.gguf", "seedvr2_ema_7b_sharp_fp16.safetensors",
)  # fmt: skip
