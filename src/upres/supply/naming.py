"""What a weights file is called in the model directory, from what it is and what is known of where it came from."""

from __future__ import annotations

import re
from pathlib import Path

from upres.catalog.flashvsr import FLASHVSR_MODELS, FLASHVSR_PROMPT, FLASHVSR_VAE, VERSIONS, flashvsr_file
from upres.catalog.seedvr2 import SEEDVR2_TEXT, SEEDVR2_VAE
from upres.errors import InvalidParameter, WeightsInvalid
from upres.sources import SOURCES
from upres.supply.fetch import Progress, digest

# (part, what most values are stored in) -> the catalogue's name; {} stands for "" or "_sharp"
TRANSFORMERS = {
    ("3b", "F16"): "seedvr2_ema_3b_fp16.safetensors",
    ("3b", "F8_E4M3"): "seedvr2_ema_3b_fp8_e4m3fn.safetensors",
    ("3b", "Q4_K"): "seedvr2_ema_3b-Q4_K_M.gguf",
    ("3b", "Q8_0"): "seedvr2_ema_3b-Q8_0.gguf",
    ("7b", "F16"): "seedvr2_ema_7b{}_fp16.safetensors",
    ("7b", "F8_E4M3"): "seedvr2_ema_7b{}_fp8_e4m3fn.safetensors",
    ("7b", "Q4_K"): "seedvr2_ema_7b{}-Q4_K_M.gguf",
    ("7b", "Q8_0"): "seedvr2_ema_7b{}-Q8_0.gguf",
}
ALONE = {"vae": SEEDVR2_VAE, "text": SEEDVR2_TEXT, "prompt": FLASHVSR_PROMPT, "wan_vae": FLASHVSR_VAE}
VERSIONED = ("dit", "lq_proj", "tcdecoder")
# How publishers write FlashVSR's version, in the file's name or that of a folder it lies in
WRITTEN = {"v1.1": r"(?<!\d)v?1[._-]1(?!\d)", "v1": r"(?<![a-z])v1(?:[._-]0)?(?![\d._-]*\d)"}
FOLDERS = 4  # how far up a version is looked for: models--<publisher>--<name>/snapshots/<hash>/<file>


def name_of(source: Path, part: str, precision: str, wanted: str | None, report: Progress) -> str:
    """Raises WeightsInvalid for what the catalogue has no name for, InvalidParameter where `wanted` does not fit or is
    needed.
    """
    if part in VERSIONED:
        return flashvsr_file(_version(source, part, wanted), part)
    fitting = [ALONE[part]] if part in ALONE else _transformers(source, part, precision)
    if wanted in {model.name for model in FLASHVSR_MODELS} and part in ("prompt", "wan_vae"):
        return ALONE[part]
    if wanted is not None:
        if wanted not in fitting:
            raise InvalidParameter(f"{source.name} cannot be {wanted}", remedy=f"it can be {' or '.join(fitting)}")
        return wanted
    if len(fitting) == 1 or "sharp" in source.name.lower():
        return fitting[-1]
    found = digest(source, report)
    return next((name for name in fitting if SOURCES[name].sha256 == found), fitting[0])


def _transformers(source: Path, part: str, precision: str) -> list[str]:
    if (part, precision) not in TRANSFORMERS:
        stored = ", ".join(sorted(type_ for known, type_ in TRANSFORMERS if known == part))
        raise WeightsInvalid(f"{source.name}: a {part.upper()} transformer stored mostly as {precision}",
                             remedy=f"the catalogue has it as {stored}")  # fmt: skip
    pattern = TRANSFORMERS[part, precision]
    return list(dict.fromkeys(pattern.format(middle) for middle in ("", "_sharp")))


def _version(source: Path, part: str, wanted: str | None) -> str:
    """Nothing in the file tells; `wanted` is a model's name or the file's, the source's name and folders may say."""
    if wanted is not None:
        for version in VERSIONS:
            if wanted == flashvsr_file(version, part) or wanted.startswith(f"flashvsr-{version}-"):
                return version
        files = " or ".join(flashvsr_file(version, part) for version in VERSIONS)
        raise InvalidParameter(f"{source.name} cannot be {wanted}", remedy=f"it can be {files}")
    for name in (source.name, *(folder.name for folder in list(source.parents)[:FOLDERS])):
        for version, pattern in WRITTEN.items():
            if re.search(pattern, name.lower()):
                return version
    models = " or ".join(f"flashvsr-{version}-tiny-long" for version in VERSIONS)
    raise InvalidParameter(f"{source.name}: nothing says which version of FlashVSR it is", remedy=(
        f"say it with --as {models}"))  # fmt: skip
