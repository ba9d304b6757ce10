"""Which errors mean that the device can no longer be used by this process. Knows nothing of tasks."""

from __future__ import annotations

from collections.abc import Iterator

import torch

# Of older torch, and of libraries that report through plain RuntimeErrors. Not run on a GPU here.
_MARKS = ("CUDA error", "CUBLAS_STATUS", "CUDNN_STATUS", "device-side assert")
_MEMORY = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Also where CUDA itself says so and not torch's allocator."""
    return any(isinstance(one, torch.OutOfMemoryError) or (_from_device(one) and any(m in str(one) for m in _MEMORY))
               for one in _chain(error))  # fmt: skip


def is_device_fault(error: BaseException) -> bool:
    """An illegal access, a failed assertion, a lost device: the CUDA context answers nothing else from now on, and only
    a new process gets a new one. Running out of memory is not of that kind.
    """
    return not is_out_of_memory(error) and any(_from_device(one) for one in _chain(error))


def _from_device(error: BaseException) -> bool:
    if isinstance(error, torch.AcceleratorError):
        return True
    return isinstance(error, RuntimeError) and any(mark in str(error) for mark in _MARKS)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from."""
    one: BaseException | None = error
    while one is not None:
        yield one
        one = one.__cause__
