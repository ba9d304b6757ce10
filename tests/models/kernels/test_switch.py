"""Which kernels are used, and what a kernel that cannot be compiled looks like to whoever wanted it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
import torch

from upres.errors import InvalidSetting
from upres.models.kernels import switch


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = switch.use("plain")
    yield
    switch.use(before)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_where_there_is_no_gpu_auto_is_plain_and_the_log_says_why(caplog: pytest.LogCaptureFixture) -> None:
    switch.use("auto")
    assert switch.use("plain") == "plain"
    assert "torch sees no GPU" in caplog.text


def test_an_unknown_mode_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidSetting, match="'fast' are unknown") as caught:
        switch.use("fast")
    assert "auto, plain, fused, fp8" in str(caught.value.remedy)


@pytest.mark.parametrize("error", [RuntimeError("Failed to find C compiler. Please specify via CC"),
                                   subprocess.CalledProcessError(1, ["gcc"]), OSError("no space left")])  # fmt: skip
def test_whatever_keeps_a_kernel_from_being_compiled_is_one_error_that_names_it(
    _interpreted: None, error: Exception
) -> None:
    @switch.launched
    def gated() -> None:
        raise error

    with pytest.raises(switch.KernelFailed, match=r"test_switch\..*gated failed: ") as caught:
        gated()
    assert caught.value.__cause__ is error


def test_lack_of_memory_in_a_kernel_stays_what_it_is(_interpreted: None) -> None:
    @switch.launched
    def gated() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        gated()
