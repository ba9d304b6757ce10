"""Video and text tokens go through the same figure, with weights of their own or with shared ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar, cast

from torch import nn

M = TypeVar("M", bound=nn.Module)


class Streams(nn.Module, Generic[M]):
    """One module for the video tokens and one for the text tokens (`vid`, `txt`), or one for both (`all`)."""

    def __init__(self, make: Callable[[], M], shared: bool) -> None:
        super().__init__()
        modules = {"all": make()} if shared else {"vid": make(), "txt": make()}
        for name, module in modules.items():
            self.add_module(name, module)
        self._video, self._text = ("all", "all") if shared else ("vid", "txt")

    @property
    def video(self) -> M:
        return cast(M, self.get_submodule(self._video))

    @property
    def text(self) -> M:
        return cast(M, self.get_submodule(self._text))
