"""Fused kernels run in Triton's interpreter, on the CPU. Where Triton is not installed their tests are skipped."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from upres.models.kernels import switch


@pytest.fixture(scope="session")
def _interpreted() -> Iterator[None]:
    before = os.environ.get("TRITON_INTERPRET")
    os.environ["TRITON_INTERPRET"] = "1"  # must be there when Triton is first imported
    pytest.importorskip("triton", reason="fused kernels are tested where Triton is: pip install triton")
    _let_tensors_count()
    yield
    if before is None:
        del os.environ["TRITON_INTERPRET"]


@pytest.fixture
def fused(_interpreted: None) -> Iterator[None]:
    before = switch.use("fused")
    with torch.inference_mode():
        yield
    switch.use(before)


@pytest.fixture
def fp8(_interpreted: None) -> Iterator[None]:
    before = switch.use("fp8")
    with torch.inference_mode():
        yield
    switch.use(before)


def _let_tensors_count() -> None:
    """Triton 3.6 makes the ends of a loop with int() of arrays of one number, which numpy 2.4 refuses."""
    from triton.runtime import interpreter

    patch = interpreter._patch_lang_tensor

    def patched(tensor: type, scope: Any) -> None:
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())

    interpreter._patch_lang_tensor = patched
