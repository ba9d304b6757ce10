"""Every model there is: its files, where they come from, what it needs and who builds it. No torch, no downloads."""

from __future__ import annotations

from pathlib import Path

from upres.catalog.flashvsr import FLASHVSR_MODELS, FLASHVSR_PREFERENCE
from upres.catalog.model import Model
from upres.catalog.seedvr2 import SEEDVR2_MODELS, SEEDVR2_PREFERENCE
from upres.errors import ModelNotFound
from upres.models.limits import Limits
from upres.tasks import ModelInfo

# what each architecture suits and why, for whoever has to choose
BEST_FOR = {
    "seedvr2": "footage and images that are badly damaged, compressed or old, where detail counts more than time: a "
               "diffusion transformer sees the frames of a shot together, at any size; the slowest",
    "flashvsr": "long video and clean or AI-generated clips, enlarged 2 to 4 times: one diffusion step on a stream of "
                "frames, by its authors' measure up to 12 times as fast as other one-step models; not for images",
    "compact": "a quick result, a preview, or a machine without a GPU: a small network that enlarges each frame by "
               "itself and invents no detail",
}  # fmt: skip
DEFAULT_NAMES = (None, "", "default")  # what a caller writes who does not choose

COMPACT = Model(
    name="compact", architecture="compact", params="0.1M", precision="FP16", size="0.3MB", vram="~1GB", variant="",
    desc={"en": "embedded x2 convolution network: fast, modest, needs no download",
          "zh-CN": "内置 2 倍卷积网络：快速、效果适中、无需下载"},
    files=("compact_x2.safetensors",), limits=Limits(takes="source"),
    factory="upres.models.compact.restorer:load", pixels_per_s_core=1e6, pixels_per_s_gpu=2e8,
)  # fmt: skip

MODELS: tuple[Model, ...] = (*SEEDVR2_MODELS, *FLASHVSR_MODELS, COMPACT)
_BY_NAME = {model.name: model for model in MODELS}
# The default is the first installed one; compact needs no download.
PREFERENCE: tuple[str, ...] = (*SEEDVR2_PREFERENCE, *FLASHVSR_PREFERENCE, "compact")


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

    def absent(self) -> list[Model]:
        return [model for model in MODELS if not self.installed(model)]

    def paths(self, model: Model) -> tuple[Path, ...]:
        """The weights files. Raises ModelNotFound if one is missing."""
        missing = self.missing(model)
        if missing:
            remedy = "install Upres again" if model is COMPACT else download_command(model.name)
            raise ModelNotFound(f"model {model.name} needs {', '.join(missing)} in MODEL_DIR", remedy=remedy)
        return tuple(path for path in map(self._locate, model.files) if path is not None)

    def missing(self, model: Model) -> list[str]:
        return [file for file in model.files if self._locate(file) is None]

    def known(self, name: str) -> Model:
        """Installed or not; for what another version ordered, the smallest."""
        return _BY_NAME.get(name, COMPACT)

    def expected_pixels_per_s(self, name: str, cores: int) -> float:
        """Output pixels per second, before anything was measured here; `cores` of a CPU, 0 for a GPU."""
        model = self.known(name)
        return model.pixels_per_s_core * cores if cores else model.pixels_per_s_gpu

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
    installed = Path(__file__).parents[1] / "weights" / "compact"
    return installed if installed.is_dir() else Path(__file__).parents[3] / "weights" / "compact"
