"""Networks whose weights are on the device only while they compute. Knows nothing of what they compute.

Their home is host memory, pinned where the device is a GPU. Weights are never written back: to make room, the copy on
the device is dropped. Code for CUDA streams runs on GPUs only; on a CPU every copy is made when it is asked for, so
that there the order of things is the same, and the sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from upres.models.placement import Offload


class Shelf:
    """Some networks, of which one at a time computes, and the blocks of the largest of them, run in order."""

    def __init__(self, networks: Sequence[nn.Module], blocks: nn.ModuleList, device: torch.device) -> None:
        self._networks, self._blocks = networks, blocks
        self._device = torch.empty(0, device=device).device  # with its number, as tensors tell it: cuda is not cuda:0
        self._hooks: list[RemovableHandle] = []
        self._way: Offload | None = None  # as the weights were loaded: on the device or on the host

    def arrange(self, way: Offload) -> None:
        """What comes next may be more or less than what there was. Raises torch.OutOfMemoryError."""
        if way == self._way or (way == "none" and self._way is None and self._at_home()):
            self._way = way
            return
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._way = None
        if way == "none":
            for network in self._networks:
                Weights(_tensors(network), self._device).fetch()
        else:
            self._offload(streamed=way == "blocks")
        self._way = way

    def _at_home(self) -> bool:
        return all(t.device == self._device for network in self._networks for t in _tensors(network))

    def _offload(self, *, streamed: bool) -> None:
        apart = {id(t) for t in _tensors(self._blocks)} if streamed else set()
        kept = [[t for t in _tensors(network) if id(t) not in apart] for network in self._networks]
        turns = Turns([Weights(tensors, self._device) for tensors in kept])
        for index, network in enumerate(self._networks):
            self._hooks.append(network.register_forward_pre_hook(turns.hook(index)))
        if streamed:
            self._hooks.extend(Convoy(self._blocks, self._device).hooks())


class Weights:
    """Tensors with a home on the host, pinned if the device is a GPU, and perhaps a copy on the device."""

    def __init__(self, tensors: Sequence[Tensor], device: torch.device) -> None:
        self._tensors, self._device = tensors, device
        self._home = [_on_host(tensor.data, device) for tensor in tensors]
        self.drop()

    def fetch(self) -> None:
        with torch.inference_mode(False):
            for tensor, home in zip(self._tensors, self._home, strict=True):
                copy = torch.empty_like(home, device=self._device)
                tensor.data = copy.copy_(home, non_blocking=True)

    def drop(self) -> None:
        with torch.inference_mode(False):
            for tensor, home in zip(self._tensors, self._home, strict=True):
                tensor.data = home

    def used_on(self, stream: torch.cuda.Stream) -> None:
        """Their memory is not given to others before what that stream has been told by now is done."""
        for tensor in self._tensors:
            tensor.data.record_stream(stream)


class Turns:
    """Whoever computes next is fetched, and whoever was there before goes."""

    def __init__(self, weights: Sequence[Weights]) -> None:
        self._weights = weights
        self._there: int | None = None

    def hook(self, index: int) -> Any:
        def before(network: nn.Module, given: object) -> None:
            if self._there == index:
                return
            if self._there is not None:
                self._weights[self._there].drop()
            self._there = None  # should fetching fail, nobody is there
            self._weights[index].fetch()
            self._there = index

        return before


class Convoy:
    """Blocks that compute in order: while one does, the next is on its way. No more than these two are there."""

    def __init__(self, blocks: nn.ModuleList, device: torch.device) -> None:
        self._blocks = blocks
        self._weights = [Weights(_tensors(block), device) for block in blocks]
        self._fetched: set[int] = set()
        self._road = Road() if device.type == "cuda" else None

    def hooks(self) -> list[RemovableHandle]:
        hooks = []
        for index, block in enumerate(self._blocks):
            hooks.append(block.register_forward_pre_hook(lambda *_, at=index: self._before(at)))
            hooks.append(block.register_forward_hook(lambda *_, at=index: self._after(at)))
        return hooks

    def _before(self, index: int) -> None:
        if index == 0:  # a run that an error broke off may have left some
            for left in tuple(self._fetched):
                self._drop(left)
        if index not in self._fetched:
            self._fetch(index)
        if self._road is not None:
            self._road.arrived(index)

    def _after(self, index: int) -> None:
        if index + 1 < len(self._weights):
            self._fetch(index + 1)
        if self._road is not None:
            self._weights[index].used_on(torch.cuda.current_stream())
            self._road.computed()
        self._drop(index)

    def _fetch(self, index: int) -> None:
        self._fetched.add(index)
        if self._road is None:
            self._weights[index].fetch()
        else:
            self._road.bring(index, self._weights[index])

    def _drop(self, index: int) -> None:
        self._weights[index].drop()
        self._fetched.discard(index)


class Road:
    """A second CUDA stream for copies."""

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._arrivals: dict[int, torch.cuda.Event] = {}
        self._computed: list[torch.cuda.Event] = []

    def bring(self, index: int, weights: Weights) -> None:
        """Called when the block before this one is queued: waits on the host for the one before that, whose memory this
        one gets. The host runs far ahead of the device, and blocks would pile up there."""
        while self._computed:
            self._computed.pop(0).synchronize()
        with torch.cuda.stream(self._stream):
            weights.fetch()
            self._arrivals[index] = self._stream.record_event()

    def arrived(self, index: int) -> None:
        torch.cuda.current_stream().wait_event(self._arrivals.pop(index))

    def computed(self) -> None:
        self._computed.append(torch.cuda.current_stream().record_event())


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _on_host(tensor: Tensor, device: torch.device) -> Tensor:
    host = tensor.to("cpu")
    return host.pin_memory() if device.type == "cuda" and not host.is_pinned() else host
