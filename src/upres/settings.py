"""All settings, read from the environment once. Knows nothing of what they are used for."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import platformdirs

from upres.errors import InvalidSetting

UNFILLED = re.compile(r"\$\{[^}]*\}.*")  # a client's placeholder for what its user left empty, passed on as it stands
YES, NO = ("yes", "true", "1", "on"), ("no", "false", "0", "off")
TOKEN = "UPRES_TOKEN"


@dataclass(frozen=True, slots=True)
class Settings:
    """Frozen; every path absolute. `SETTINGS` below gives each field its variable, default and meaning."""

    data_dir: Path
    output_dir: Path
    upload_dir: Path
    model_dir: Path
    flashvsr_model: str
    hub_url: str
    host: str
    port: int
    allowed_hosts: tuple[str, ...]
    cors_origins: tuple[str, ...]
    visible_devices: str
    idle_timeout_s: float
    remote_url: str
    max_upload_mb: int
    disk_reserve_mb: int
    max_attempts: int
    wait_cap_s: float
    wait_caps: tuple[str, ...]
    mcp_tools: str
    mcp_read_only: bool
    mcp_images: bool
    auto_longest_s: float
    threads: int
    kernels: str
    work_dir: Path
    segment_frames: int
    max_hours: float
    token: str = field(repr=False)
    roots: tuple[Path, ...]
    max_queued: int
    max_gigapixels: float
    stall_timeout_s: float
    quarantine_s: float
    keep_outputs_days: float
    keep_uploads_days: float
    keep_gb: float
    vram_limit_mb: int
    attention: str

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Raises InvalidSetting for a value that cannot be read and for an unknown UPRES_ name."""
        known = {row.variable for row in SETTINGS}
        unknown = sorted(name for name in env if name.startswith("UPRES_") and name not in known)
        if unknown:
            raise InvalidSetting(f"unknown setting {unknown[0]}", remedy=f"known: {', '.join(sorted(known))}")
        values: dict[str, object] = {}
        for row in SETTINGS:
            text = UNFILLED.sub("", env.get(row.variable, "").strip())
            try:
                values[row.field] = row.read(text) if text else row.default(values)
            except ValueError as error:
                shown = "…" if row.secret else repr(text)
                raise InvalidSetting(f"{row.variable}={shown}: {error}", remedy=row.meaning) from error
        return cls(**values)  # type: ignore[arg-type]

    @property
    def all_roots(self) -> tuple[Path, ...]:
        """Where inputs and outputs of tasks may lie; empty: anywhere."""
        return (*self.roots, self.upload_dir, self.output_dir, self.data_dir / "previews") if self.roots else ()

    def folders_of(self, task_id: str) -> tuple[Path, ...]:
        """All that a task has of its own: its result, its unfinished pieces, links to its input."""
        return self.output_dir / task_id, self.work_dir / task_id, self.data_dir / "inputs" / task_id

    def to_env(self) -> dict[str, str]:
        """The environment that `from_env` reads back as these settings, without secrets: how a worker gets them."""
        return {row.variable: row.write(getattr(self, row.field)) for row in SETTINGS if not row.secret}


@dataclass(frozen=True, slots=True)
class Setting:
    field: str
    variable: str
    read: Callable[[str], object]
    default: Callable[[dict[str, object]], object]  # gets the fields read so far
    shown_default: str
    meaning: str
    write: Callable[[Any], str] = str
    secret: bool = False


def _path(text: str) -> Path:
    return Path(text).expanduser().absolute()


def _under(part: str) -> Callable[[dict[str, object]], object]:
    return lambda values: Path(str(values["data_dir"])) / part


def _number_from(low: float, kind: type[int] | type[float]) -> Callable[[str], object]:
    def read(text: str) -> object:
        value = kind(text)
        if not value >= low:  # nor NaN
            raise ValueError(f"must be at least {low}")
        return value

    return read


def _one_of(*names: str) -> Callable[[str], object]:
    def read(text: str) -> object:
        if text not in names:
            raise ValueError(f"must be one of {', '.join(names)}")
        return text

    return read


def _fixed(value: object) -> Callable[[dict[str, object]], object]:
    return lambda _: value


def _url(text: str) -> str:
    if not text.startswith(("https://", "http://")):
        raise ValueError("must begin with https:// or http://")
    return text.rstrip("/")


def _yes_or_no(text: str) -> object:
    if text.lower() not in YES + NO:
        raise ValueError("must be yes or no")
    return text.lower() in YES


def _caps(text: str) -> object:
    """`name=seconds` for each client, checked and kept as text."""
    caps = _names(text)
    for cap in caps:
        name, _, seconds = cap.partition("=")
        if not name or float(seconds) < 1:
            raise ValueError("must be name=seconds, at least 1")
    return caps


def _origins(text: str) -> object:
    """Scheme, host and port, as browsers write them."""
    for origin in (origins := _names(text)):
        if origin != "*" and not re.fullmatch(r"https?://[^/\s@]+", origin):
            raise ValueError("an origin is written like https://app.example:8443, without a path")
    return tuple(origin.lower() for origin in origins)


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _paths(text: str) -> tuple[Path, ...]:
    return tuple(_path(part) for part in text.split(os.pathsep) if part)


def _secret(text: str) -> str:
    if not re.fullmatch(r"[\x21-\x7e]{32,}", text):
        raise ValueError("must be 32 or more printable ASCII characters, as from `openssl rand -hex 32`")
    return text


SETTINGS: tuple[Setting, ...] = (
    Setting("data_dir", "UPRES_DATA_DIR", _path, _fixed(platformdirs.user_data_path("upres")),
            "per-user directory", "task store, locks, logs"),
    Setting("output_dir", "OUTPUT_FOLDER", _path, _under("outputs"), "<data>/outputs", "where results are written"),
    Setting("upload_dir", "UPLOAD_FOLDER", _path, _under("uploads"), "<data>/uploads", "where REST uploads are kept"),
    Setting("model_dir", "MODEL_DIR", _path, _under("models"), "<data>/models", "where weights files are looked for"),
    Setting("flashvsr_model", "UPRES_FLASHVSR_MODEL", str, _fixed("flashvsr-v1.1-tiny-long"), "flashvsr-v1.1-tiny-long",
            "model that runs what is sent to FlashVSR's REST API"),
    Setting("hub_url", "HF_ENDPOINT", _url, _fixed("https://huggingface.co"), "https://huggingface.co",
            "Hugging Face or a mirror of it, which `upres download` asks"),
    Setting("host", "UPRES_HOST", str, _fixed("127.0.0.1"), "127.0.0.1", "address `upres serve` binds"),
    Setting("port", "PORT", _number_from(0, int), _fixed(8200), "8200", "port `upres serve` binds"),
    Setting("allowed_hosts", "UPRES_ALLOWED_HOSTS", _names, _fixed(()), "none",
            "further Host names the server answers to, comma-separated", write=",".join),
    Setting("cors_origins", "UPRES_CORS_ORIGINS", _origins, _fixed(()), "none",
            "origins of web pages elsewhere that may use the API (`https://app.example`), comma-separated; `*`: any, "
            "which needs UPRES_TOKEN", write=",".join),
    Setting("visible_devices", "NVIDIA_VISIBLE_DEVICES", str, _fixed("0"), "0",
            "GPU indexes or UUIDs to use, comma-separated; `all`; `none` for the CPU"),
    Setting("idle_timeout_s", "GPU_IDLE_TIMEOUT", _number_from(0, float), _fixed(600.0), "600",
            "seconds without work after which a worker unloads its model and exits"),
    Setting("remote_url", "SEEDVR2_API_URL", str, _fixed(""), "none",
            "base URL of another Upres (or SeedVR2) server that shall do the work"),
    Setting("max_upload_mb", "MAX_UPLOAD_SIZE", _number_from(1, int), _fixed(4096), "4096", "largest upload, MB"),
    Setting("disk_reserve_mb", "UPRES_DISK_RESERVE", _number_from(0, int), _fixed(512), "512",
            "free space below which no task is accepted, MB"),
    Setting("max_attempts", "UPRES_MAX_ATTEMPTS", _number_from(1, int), _fixed(3), "3",
            "how often a task is started before a worker's death fails it"),
    Setting("wait_cap_s", "UPRES_WAIT_CAP", _number_from(1, float), _fixed(50.0), "50",
            "longest single wait_for_task of an MCP client, seconds"),
    Setting("wait_caps", "UPRES_WAIT_CAPS", _caps, _fixed(("claude-code=170",)), "claude-code=170",
            "the same for clients by the beginning of their name, comma-separated", write=",".join),
    Setting("mcp_tools", "UPRES_MCP_TOOLS", _one_of("all", "core"), _fixed("all"), "all",
            "MCP tools that are offered: all, or core (the shortest way from a file to a result)"),
    Setting("mcp_read_only", "UPRES_MCP_READ_ONLY", _yes_or_no, _fixed(False), "no",
            "offer only MCP tools that change nothing: yes, no"),
    Setting("mcp_images", "UPRES_MCP_IMAGES", _yes_or_no, _fixed(True), "yes",
            "put small pictures into MCP results: yes, no"),
    Setting("auto_longest_s", "UPRES_AUTO_LONGEST", _number_from(0, float), _fixed(3600.0), "3600",
            "longest estimate for which dit_model=auto takes the better of two models, seconds"),
    Setting("threads", "UPRES_THREADS", _number_from(0, int), _fixed(0), "0",
            "CPU threads of a worker; 0 lets it use every core"),
    Setting("kernels", "UPRES_KERNELS", _one_of("auto", "plain", "fused", "fp8"), _fixed("auto"), "auto",
            "on a GPU: `fused` passes in Triton, `fp8` with 8-bit products besides (not judged on published weights), "
            "or `plain`; auto is fused where the GPU and Triton allow"),
    Setting("work_dir", "UPRES_WORK_FOLDER", _path, _under("work"), "<data>/work",
            "where finished pieces of running tasks are kept"),
    Setting("segment_frames", "UPRES_SEGMENT_FRAMES", _number_from(1, int), _fixed(120), "120",
            "least frames of such a piece; at most twice as many are lost with a worker"),
    Setting("max_hours", "UPRES_MAX_HOURS", _number_from(0.01, float), _fixed(6.0), "6", "longest clip taken, hours"),
    Setting("token", TOKEN, _secret, _fixed(""), "none",
            "secret that HTTP clients send as `Authorization: Bearer`; needed to bind any but a loopback address",
            secret=True),
    Setting("roots", "UPRES_ROOTS", _paths, _fixed(()), "anywhere",
            "directories that inputs may lie in and outputs may go to, separated as in PATH",
            write=lambda paths: os.pathsep.join(map(str, paths))),
    Setting("max_queued", "UPRES_MAX_QUEUED", _number_from(1, int), _fixed(1000), "1000",
            "waiting tasks above which none is accepted"),
    Setting("max_gigapixels", "UPRES_MAX_GIGAPIXELS", _number_from(0.001, float), _fixed(4000.0), "4000",
            "largest task: frames times output pixels, 10⁹ (two hours of 4K at 60 frames/s)"),
    Setting("stall_timeout_s", "UPRES_STALL_TIMEOUT", _number_from(1, float), _fixed(1800.0), "1800",
            "seconds without progress after which a worker is ended and its task runs again; four times that "
            "until the first frame"),
    Setting("quarantine_s", "UPRES_QUARANTINE", _number_from(0, float), _fixed(600.0), "600",
            "seconds for which a device that failed three times in ten minutes is not used"),
    Setting("keep_outputs_days", "UPRES_KEEP_OUTPUTS", _number_from(0, float), _fixed(0.0), "0",
            "days after which results in OUTPUT_FOLDER are deleted; 0 keeps them"),
    Setting("keep_uploads_days", "UPRES_KEEP_UPLOADS", _number_from(0, float), _fixed(7.0), "7",
            "days after which uploads of finished tasks are deleted; 0 keeps them"),
    Setting("keep_gb", "UPRES_KEEP_GB", _number_from(0, float), _fixed(0.0), "0",
            "size of uploads and results above which the oldest finished tasks' are deleted, GB; 0 keeps them"),
    Setting("vram_limit_mb", "UPRES_VRAM_LIMIT", _number_from(0, int), _fixed(0), "0",
            "device memory a worker may use, MB; 0: all of the GPU's, without one half of the machine's"),
    Setting("attention", "UPRES_ATTENTION", _one_of("auto", "sdpa", "flash", "sage"), _fixed("auto"), "auto",
            "attention kernel of SeedVR2 on a GPU: sdpa, flash, sage (8 bits); auto: flash if installed, else sdpa"),
)  # fmt: skip

assert [row.field for row in SETTINGS] == [field.name for field in fields(Settings)]
