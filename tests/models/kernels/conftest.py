"""Fused kernels run in Triton's interpreter, on the CPU. Where Triton 3.6 is not installed their tests are skipped."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import pytest
import torch

from upres.models.kernels import switch


@pytest.fixture(scope="session")
def _interpreted() -> Iterator[None]:
    before = os.environ.get("TRITON_INTERPRET")
    os.environ["TRITON_INTERPRET"] = "1"  # must be there when Triton is first imported
    require_triton()
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


def require_triton() -> None:
    """The one whose inner parts are used here: that of torch 2.11, the GPU's."""
    if find_spec("triton") is None or version("triton").split(".")[:2] != ["3", "6"]:
        pytest.skip("fused kernels are tested where Triton 3.6 is: pip install triton==3.6.0")


def _let_tensors_count() -> None:
    """Triton 3.6 makes the ends of a loop with int() of arrays of one number, which numpy 2.4 refuses."""
    from triton.runtime import interpreter

    patch = interpreter._patch_lang_tensor

    def patched(tensor: type, scope: Any) -> None:
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())

    interpreter._patch_lang_tensor = patched


@pytest.fixture
def compiler() -> None:
    require_triton()
