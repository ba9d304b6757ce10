"""FlashVSR's documented API about the server itself: device, counts, weights. Knows nothing of how they are found."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from upres.settings import Settings
from upres.surfaces.rest import PROBLEMS, EngineDep, SettingsDep, get
from upres.surfaces.rest_flashvsr_views import FAMILY, STATES, version_and_variant
from upres.tasks import GpuStatus, ModelInfo, ModelList, TaskState

MB_A_GB = 1024

router = APIRouter(prefix="/api/system", responses=PROBLEMS)


class GpuInfo(BaseModel):
    """Memory in GB (2**30 bytes) of the first GPU, whoever uses it: the model lives in a process of its own."""

    name: str
    count: int
    memory_allocated: float
    memory_reserved: float
    memory_total: float

    @classmethod
    def of(cls, gpu: GpuStatus) -> GpuInfo | None:
        if not gpu.cuda_available:
            return None
        used = round(gpu.vram_used_mb / MB_A_GB, 2)
        return cls(name=str(gpu.gpu_name), count=gpu.gpu_count, memory_allocated=used, memory_reserved=used,
                   memory_total=round(gpu.vram_total_mb / MB_A_GB, 2))  # fmt: skip


class Counts(BaseModel):
    total: int
    pending: int
    processing: int
    completed: int
    failed: int

    @classmethod
    def of(cls, counts: dict[TaskState, int]) -> Counts:
        shown = {status: sum(counts.get(state, 0) for state in states) for status, states in STATES.items()}
        return cls(total=sum(counts.values()), **shown)


class Weights(BaseModel):
    """`missing_files` are those of the default variant, `weights_ready` says that there are none."""

    version: str
    default_variant: str
    available_variants: list[str]
    ready_variants: dict[str, bool]
    missing_files: list[str]
    model_path: str
    weights_ready: bool
    auto_download_used: bool
    model_source: str | None

    @classmethod
    def of(cls, listing: ModelList, default: str, folder: str) -> Weights:
        version, variant = version_and_variant(default)
        known = {info.name: info for info in (*listing.models, *listing.absent)}
        family = [info for info in known.values() if _in_family(info, version) and info.name != default]
        ready = default in known and known[default].installed
        return cls(
            version=version, default_variant=variant,
            available_variants=[variant, *(version_and_variant(info.name)[1] for info in family)],
            ready_variants={variant: ready, **{version_and_variant(info.name)[1]: info.installed for info in family}},
            missing_files=list(known[default].missing) if default in known else [default],
            model_path=folder, weights_ready=ready, auto_download_used=False, model_source="local" if ready else None,
        )  # fmt: skip


def _in_family(info: ModelInfo, version: str) -> bool:
    return info.name.startswith(FAMILY) and version_and_variant(info.name)[0] == version


class Assets(BaseModel):
    flashvsr: Weights


class SystemStatus(BaseModel):
    gpu_available: bool
    gpu_info: GpuInfo | None
    tasks: Counts
    flashvsr: Weights


def _weights(listing: ModelList, settings: Settings) -> Weights:
    return Weights.of(listing, settings.flashvsr_model, str(settings.model_dir))


@get(router, "/status", summary="Tasks, GPU and weights")
def status(engine: EngineDep, settings: SettingsDep) -> SystemStatus:
    gpu = GpuInfo.of(engine.gpu())
    return SystemStatus(gpu_available=gpu is not None, gpu_info=gpu, tasks=Counts.of(engine.tasks(page_size=1).counts),
                        flashvsr=_weights(engine.models(), settings))  # fmt: skip


@get(router, "/assets", summary="Weights")
def assets(engine: EngineDep, settings: SettingsDep) -> Assets:
    return Assets(flashvsr=_weights(engine.models(), settings))
