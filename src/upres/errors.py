"""Every way Upres can refuse or fail: a code, an HTTP status and a remedy each. Knows nothing of who raises them."""

from __future__ import annotations

from typing import ClassVar


class UpresError(Exception):
    """A failure with a name. `message` says what and which value; `remedy` says what to do next."""

    code: ClassVar[str] = "internal_error"
    http_status: ClassVar[int] = 500

    retry_after_s: ClassVar[int | None] = None  # a client may try the same again after this; in Retry-After

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


class InvalidParameter(UpresError):
    """A parameter is out of its range or of the wrong kind."""

    code, http_status = "invalid_parameter", 400


class InvalidInput(UpresError):
    """The input file cannot be read, is not a regular file, or is damaged beyond use."""

    code, http_status = "invalid_input", 400


class UnsupportedMedia(UpresError):
    """The input is a file we understand to be something we do not restore."""

    code, http_status = "unsupported_media", 400


class InvalidSetting(UpresError):
    """An environment variable or option holds a value that cannot be used."""

    code, http_status = "invalid_setting", 500


class FileMissing(UpresError):
    """A path given to us does not exist."""

    code, http_status = "file_not_found", 404


class TaskNotFound(UpresError):
    code, http_status = "task_not_found", 404


class TaskNotCompleted(UpresError):
    """The result of a task was asked for before it exists (or it never will)."""

    code, http_status = "task_not_completed", 400


class TaskNotFinished(UpresError):
    """Asked of a task that still waits or runs, and only a finished one can do it."""

    code, http_status = "task_not_finished", 409


class OutputMissing(UpresError):
    """The task completed, but its file is no longer there."""

    code, http_status = "output_not_found", 404


class ModelNotFound(UpresError):
    code, http_status = "model_not_found", 404


class ModelUnavailable(UpresError):
    """An API that always runs one model cannot: its weights are not installed."""

    code, http_status = "model_unavailable", 503


class WeightsInvalid(UpresError):
    """A weights file does not hold what its model needs."""

    code, http_status = "weights_invalid", 500


class GpuBusy(UpresError):
    """The device cannot be released while a task runs on it."""

    code, http_status = "gpu_busy", 409


class WorkerFailed(UpresError):
    """A worker could not be started, or died while it ran a task."""

    code, http_status = "worker_failed", 500


class OutOfMemory(UpresError):
    code, http_status = "out_of_memory", 500


class MediaFailed(UpresError):
    """ffmpeg failed, stalled or gave other frames than it promised."""

    code, http_status = "media_failed", 500


class UploadTooLarge(UpresError):
    code, http_status = "upload_too_large", 413


class TaskTooLarge(UpresError):
    """One task would hold the device for longer than its operator allows."""

    code, http_status = "task_too_large", 413


class QueueFull(UpresError):
    code, http_status, retry_after_s = "queue_full", 429, 10


class PathRefused(UpresError):
    """A path lies outside the directories that tasks may use, or leads out of them."""

    code, http_status = "path_not_allowed", 403


class DiskFull(UpresError):
    code, http_status, retry_after_s = "disk_full", 507, 60


class StoreUnusable(UpresError):
    """The task store is newer than this program, damaged, or cannot be opened."""

    code, http_status = "store_unusable", 500


class RemoteFailed(UpresError):
    """The server named by SEEDVR2_API_URL did not answer, or answered with something else than its API."""

    code, http_status = "remote_failed", 502


class DownloadFailed(UpresError):
    """A weights file could not be fetched whole from any of its sources."""

    code, http_status = "download_failed", 502


class Outdated(UpresError):
    """Raised inside a worker whose next task was ordered by a newer Upres, for a newer worker to run."""

    code, http_status = "outdated", 409


class TaskCancelled(UpresError):
    """Raised inside the worker when a cancel was asked for; never shown as a failure."""

    code, http_status = "cancelled", 409


class TaskLost(UpresError):
    """Raised inside the worker when its task now belongs to another worker (fencing token)."""

    code, http_status = "task_lost", 409
