"""All settings, read from the environment once. Knows nothing of what they are used for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import platformdirs

from upres.errors import InvalidSetting


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
    visible_devices: str
    idle_timeout_s: float
    remote_url: str
    max_upload_mb: int
    disk_reserve_mb: int
    max_attempts: int
    wait_cap_s: float
    threads: int
    work_dir: Path
    segment_frames: int
    max_hours: float

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Raises InvalidSetting for a value that cannot be read and for an unknown UPRES_ name."""
        known = {row.variable for row in SETTINGS}
        unknown = sorted(name for name in env if name.startswith("UPRES_") and name not in known)
        if unknown:
            raise InvalidSetting(f"unknown setting {unknown[0]}", remedy=f"known: {', '.join(sorted(known))}")
        values: dict[str, object] = {}
        for row in SETTINGS:
            text = env.get(row.variable, "").strip()
            try:
                values[row.field] = row.read(text) if text else row.default(values)
            except ValueError as error:
                raise InvalidSetting(f"{row.variable}={text!r}: {error}", remedy=row.meaning) from error
        return cls(**values)  # type: ignore[arg-type]


    def to_env(self) -> dict[str, str]:
        """The environment that `from_env` reads back as these settings: how a worker gets its starter's."""
        values = ((row.variable, getattr(self, row.field)) for row in SETTINGS)
        return {name: ",".join(value) if isinstance(value, tuple) else str(value) for name, value in values}


@dataclass(frozen=True, slots=True)
class Setting:
    field: str
    variable: str
    read: Callable[[str], object]
    default: Callable[[dict[str, object]], object]  # gets the fields read so far
    shown_default: str
    meaning: str


def _path(text: str) -> Path:
    return Path(text).expanduser().absolute()


def _under(part: str) -> Callable[[dict[str, object]], object]:
    return lambda values: Path(str(values["data_dir"])) / part


def _number_from(low: float, kind: type[int] | type[float]) -> Callable[[str], object]:
    def read(text: str) -> object:
        value = kind(text)
        if value < low:
            raise ValueError(f"must be at least {low}")
        return value

    return read


def _fixed(value: object) -> Callable[[dict[str, object]], object]:
    return lambda _: value


def _url(text: str) -> str:
    if not text.startswith(("https://", "http://")):
        raise ValueError("must begin with https:// or http://")
    return text.rstrip("/")


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


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
            "further Host names the server answers to, comma-separated"),
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
    Setting("threads", "UPRES_THREADS", _number_from(0, int), _fixed(0), "0",
            "CPU threads of a worker; 0 lets it use every core"),
    Setting("work_dir", "UPRES_WORK_FOLDER", _path, _under("work"), "<data>/work",
            "where finished pieces of running tasks are kept"),
    Setting("segment_frames", "UPRES_SEGMENT_FRAMES", _number_from(1, int), _fixed(120), "120",
            "least frames of such a piece; at most twice as many are lost with a worker"),
    Setting("max_hours", "UPRES_MAX_HOURS", _number_from(0.01, float), _fixed(6.0), "6", "longest clip taken, hours"),
)  # fmt: skip

assert [row.field for row in SETTINGS] == [field.name for field in fields(Settings)]
