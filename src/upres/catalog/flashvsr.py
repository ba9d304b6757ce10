"""FlashVSR's entries. Nothing in its files says which version they are, so their names here do."""

from __future__ import annotations

from upres.catalog.model import Model
from upres.models.limits import FLASHVSR

VERSIONS = ("v1.1", "v1")
FLASHVSR_PROMPT, FLASHVSR_VAE = "flashvsr_prompt.safetensors", "wan2.1_vae.safetensors"  # the same for both versions


def flashvsr_file(version: str, part: str) -> str:
    """The file of a part that each version has its own of: "dit", "lq_proj", "tcdecoder"."""
    return f"flashvsr_{version}_{part}.safetensors"


def _flashvsr(version: str, variant: str, en: str, zh: str) -> Model:
    full = variant == "full"
    decoder = FLASHVSR_VAE if full else flashvsr_file(version, "tcdecoder")
    function = f"load_{version.replace('.', '_')}_{'full' if full else 'tiny'}"
    return Model(
        name=f"flashvsr-{version}-{variant}", architecture="flashvsr", params="1.3B", precision="BF16",
        size="7.3GB" if full else "6.4GB", vram="~24GB" if full else "~16GB", variant=variant,
        desc={"en": f"{version} {en}", "zh-CN": f"{version} {zh}"},
        files=(flashvsr_file(version, "dit"), flashvsr_file(version, "lq_proj"), FLASHVSR_PROMPT, decoder),
        limits=FLASHVSR, factory=f"upres.models.flashvsr.restorer:{function}",
        pixels_per_s_core=5e3, pixels_per_s_gpu=2e7 if full else 4e7,
    )  # fmt: skip


# With the same noise the reference's tiny and tiny-long give the same frames: it decodes all at the end in the one and
# step by step in the other. Here both decode step by step, so they differ in name only.
FLASHVSR_MODELS = tuple(
    model
    for version in VERSIONS
    for model in (
        _flashvsr(version, "tiny-long", "streaming video, any length - one step, small decoder",
                  "流式视频，不限长度 - 单步，小解码器"),
        _flashvsr(version, "tiny", "streaming video - the same frames as tiny-long",
                  "流式视频 - 与 tiny-long 结果相同"),
        _flashvsr(version, "full", "streaming video - one step, the Wan 2.1 decoder: slower, more memory",
                  "流式视频 - 单步，Wan 2.1 解码器：更慢，占用显存更多"),
    )
)  # fmt: skip

FLASHVSR_PREFERENCE = tuple(model.name for model in FLASHVSR_MODELS)
