"""FlashVSR's block-sparse attention: Triton's kernel, FlexAttention and dense attention at the sizes of its steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests.bench.gpu.timing import timed
from upres.models.flashvsr.sparse_attention import flex, masked
from upres.models.kernels.blocks import AMPERE, HOPPER, Tuning, key_lists
from upres.models.kernels.eights import Keys, attend_in_eights, rounded_keys, rounded_queries, turned_values

HEADS, DIM, BLOCK = 12, 128, 128
# name: blocks of queries, blocks of keys, key blocks that a query block keeps on average (sparse ratio 2.0)
STEPS = {"768x1408": (66, 264, 119), "1536x2688": (252, 1008, 119)}
TUNINGS = {"hopper": HOPPER, "ampere": AMPERE, "128 keys, 2": Tuning(128, 8, 2)}
LEAST_DB = {"hopper, 8 bits": 22.0}  # weights, keys, queries and values all have 3 bits
HALF_DB = 40.0  # of bfloat16


def _given(queries: int, keys: int, keep: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator(device).manual_seed(0)
    q, k, v = (torch.randn(n * BLOCK, HEADS, DIM, device=device, generator=generator).bfloat16()
               for n in (queries, keys, keys))  # fmt: skip
    mask = torch.rand(HEADS, queries, keys, device=device, generator=generator) < keep / keys
    mask[0, 0] = False  # one sees nothing
    return q, k, v, mask


def right(device: torch.device, say: Callable[[str], None]) -> bool:
    if device.type != "cuda":
        say("check sparse attention: not on a CPU, where its tests hold it to its twin")
        return True
    good = True
    for sizes, middle in (((6, 17, 7), 0.0), ((2, 256, 200), 1.0)):  # what long sums lose, they lose to one side
        q, k, v, mask = _given(*sizes, device)
        v += middle
        wanted = masked(q.double(), k.double(), v.double(), mask)
        for name, way in _ways(q, k, v, mask).items():
            if name in ("flex", "dense", "lists alone", "rounding of a step"):
                continue
            made = way().double()
            error = (made - wanted).norm() / wanted.norm()
            fine = bool(error < 10 ** (-LEAST_DB.get(name, HALF_DB) / 20)) and not made[:BLOCK, 0].any()
            say(f"check sparse attention, {sizes[2]} blocks, values about {middle}, {name}: "
                f"relative error {error:.1e}{'' if fine else '  WRONG'}")  # fmt: skip
            good &= fine
    return good


def measured(device: torch.device, names: tuple[str, ...] = ()) -> Iterator[dict[str, Any]]:
    """Of these ways, or of all."""
    if device.type != "cuda":
        return
    for step, sizes in STEPS.items():
        q, k, v, mask = _given(*sizes, device)
        scores = BLOCK * BLOCK * HEADS
        for name, way in _ways(q, k, v, mask).items():
            if names and name not in names:
                continue
            pairs = sizes[0] * sizes[1] if name == "dense" else int(mask.sum()) / HEADS
            seconds = timed(way, device, 20).seconds
            yield {"step": step, "way": name, "seconds": seconds, "flops": 4 * DIM * scores * pairs}


def _ways(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> dict[str, Callable[[], Any]]:
    from upres.models.kernels.fused.blocks import attend_in_blocks

    lists = key_lists(mask)
    whole = [rearrange(x, "s h d -> 1 h s d") for x in (q, k, v)]

    def dense() -> Tensor:
        with sdpa_kernel([SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION], set_priority=True):
            return F.scaled_dot_product_attention(*whole)

    ways: dict[str, Callable[[], Any]] = {
        name: partial(attend_in_blocks, q, k, v, *lists, tuning) for name, tuning in TUNINGS.items()
    }
    if torch.cuda.get_device_capability(q.device)[0] == 9:
        from upres.models.kernels.fused import hopper_blocks

        ways["hopper, fetching warp"] = partial(hopper_blocks.attend_in_blocks, q, k, v, *lists)
        ways["hopper, 8 bits"] = partial(attend_in_eights, rounded_queries(q)[0], rounded(k, v), *lists)
        ways["rounding of a step"] = partial(rounded, k[: len(q)], v[: len(q)])
    return ways | {"flex": partial(flex, q, k, v, mask), "dense": dense, "lists alone": partial(key_lists, mask)}


def rounded(k: Tensor, v: Tensor) -> Keys:
    blocks = len(k) // BLOCK
    eight = (torch.empty(size, dtype=torch.float8_e4m3fn, device=k.device)
             for size in (k.shape, (blocks, *k.shape[1:], BLOCK)))  # fmt: skip
    held = Keys(*eight, *torch.empty(2, blocks, k.shape[1], device=k.device))
    rounded_keys(k, held.keys, held.key_scales)
    turned_values(v, held.values, held.value_scales)
    return held


def line(row: dict[str, Any]) -> str:
    return (f"sparse {row['step']:10} {row['way']:22} {row['seconds'] * 1e3:7.2f} ms, "
            f"{row['flops'] / row['seconds'] / 1e12:5.0f} TFLOP/s")  # fmt: skip
