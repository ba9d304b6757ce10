"""Where weights files can be had and how to tell that they are whole. Knows nothing of models, networks or disks."""

from __future__ import annotations

from dataclasses import dataclass

HUB = "{hub}"  # in a URL: the Hugging Face endpoint that the settings name

# who published what; files on the hub are at {hub}/<repository>/resolve/main/<file>
NUMZ = "numz/SeedVR2_comfyUI"
AINVFX = "AInVFX/SeedVR2_comfyUI"
CMEKA = "cmeka/SeedVR2-GGUF"


@dataclass(frozen=True, slots=True)
class Source:
    """`urls` are tried in order and give the same bytes, those of `sha256`. Where nobody has published that, the hub's
    own header is believed. A pickle is converted to safetensors, once, in a process that ends with it.
    """

    name: str  # of the file in the model directory
    urls: tuple[str, ...]
    sha256: str | None = None
    pickle: bool = False


def _hub(
    repository: str, name: str, sha256: str | None = None, *, file: str | None = None, pickle: bool = False
) -> Source:
    """`file` is the publisher's name, if it is another than ours."""
    return Source(name, (f"{HUB}/{repository}/resolve/main/{file if file is not None else name}",), sha256, pickle)


# Names are those of the public API. Its 7B fp8 files are had as what replaced them: with the last block in fp16, which
# takes away artefacts; the loader takes either. sha256: numz/ComfyUI-SeedVR2_VideoUpscaler 4490bd1.
SEEDVR2 = (
    _hub(NUMZ, "seedvr2_ema_3b_fp16.safetensors", "2fd0e03a3dad24e07086750360727ca437de4ecd456f769856e960ae93e2b304"),
    _hub(NUMZ, "seedvr2_ema_3b_fp8_e4m3fn.safetensors",
         "3bf1e43ebedd570e7e7a0b1b60d6a02e105978f505c8128a241cde99a8240cff"),
    _hub(AINVFX, "seedvr2_ema_3b-Q4_K_M.gguf", "e665e3909de1a8c88a69c609bca9d43ff5a134647face2ce4497640cc3597f0e"),
    _hub(AINVFX, "seedvr2_ema_3b-Q8_0.gguf", "be0d60083a2051a265eb4b77f28edf494e6db67ffc250216f32b72292e5cbd96"),
    _hub(NUMZ, "seedvr2_ema_7b_fp16.safetensors", "7b8241aa957606ab6cfb66edabc96d43234f9819c5392b44d2492d9f0b0bbe4a"),
    _hub(AINVFX, "seedvr2_ema_7b_fp8_e4m3fn.safetensors",
         "3d68b5ec0b295ae28092e355c8cad870edd00b817b26587d0cb8f9dd2df19bb2",
         file="seedvr2_ema_7b_fp8_e4m3fn_mixed_block35_fp16.safetensors"),
    _hub(AINVFX, "seedvr2_ema_7b-Q4_K_M.gguf", "db9cb2ad90ebd40d2e8c29da2b3fc6fd03ba87cd58cbadceccca13ad27162789"),
    _hub(CMEKA, "seedvr2_ema_7b-Q8_0.gguf"),
    _hub(NUMZ, "seedvr2_ema_7b_sharp_fp16.safetensors",
         "20a93e01ff24beaeebc5de4e4e5be924359606c356c9c51509fba245bd2d77dd"),
    _hub(AINVFX, "seedvr2_ema_7b_sharp_fp8_e4m3fn.safetensors",
         "0d2c5b8be0fda94351149c5115da26aef4f4932a7a2a928c6f184dda9186e0be",
         file="seedvr2_ema_7b_sharp_fp8_e4m3fn_mixed_block35_fp16.safetensors"),
    _hub(AINVFX, "seedvr2_ema_7b_sharp-Q4_K_M.gguf",
         "7aed800ac4eb8e0d18569a954c0ff35f5a1caa3ed5d920e66cc31405f75b6e69"),
    _hub(CMEKA, "seedvr2_ema_7b_sharp-Q8_0.gguf"),
    _hub(NUMZ, "ema_vae_fp16.safetensors", "20678548f420d98d26f11442d3528f8b8c94e57ee046ef93dbb7633da8612ca1"),
    Source("seedvr2_pos_emb.safetensors", (
        f"{HUB}/ByteDance-Seed/SeedVR2-3B/resolve/main/pos_emb.pt",
        "https://raw.githubusercontent.com/ByteDance-Seed/SeedVR/673b56374c2adb21b7628b90df3829d457a52bbb/pos_emb.pt",
    ), "fa07a14844314772266b66c3b95deb0027696d8fe7065721263db5176f45d799", pickle=True),
)  # fmt: skip

# Nobody has published checksums of these that we have seen; where a name has several URLs, they are the publisher's two
# versions of a repository, which hold the same file.
FLASHVSR = tuple(
    source
    for version, repository in (("v1.1", "JunhaoZhuang/FlashVSR-v1.1"), ("v1", "JunhaoZhuang/FlashVSR"))
    for source in (
        _hub(repository, f"flashvsr_{version}_dit.safetensors",
             file="diffusion_pytorch_model_streaming_dmd.safetensors"),
        _hub(repository, f"flashvsr_{version}_lq_proj.safetensors", file="LQ_proj_in.ckpt", pickle=True),
        _hub(repository, f"flashvsr_{version}_tcdecoder.safetensors", file="TCDecoder.ckpt", pickle=True),
    )
)  # fmt: skip
FLASHVSR_SHARED = (
    Source("flashvsr_prompt.safetensors", (
        "https://raw.githubusercontent.com/OpenImagingLab/FlashVSR/main/examples/WanVSR/prompt_tensor/posi_prompt.pth",
        "https://modelscope.cn/models/kuohao/FlashVSR-v1.1/resolve/master/posi_prompt.pth",
    ), pickle=True),
    Source("wan2.1_vae.safetensors", (
        f"{HUB}/JunhaoZhuang/FlashVSR-v1.1/resolve/main/Wan2.1_VAE.pth",
        f"{HUB}/JunhaoZhuang/FlashVSR/resolve/main/Wan2.1_VAE.pth",
    ), pickle=True),
)  # fmt: skip

SOURCES: dict[str, Source] = {source.name: source for source in (*SEEDVR2, *FLASHVSR, *FLASHVSR_SHARED)}
