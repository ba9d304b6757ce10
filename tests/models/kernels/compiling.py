"""Compiles every fused kernel for real sizes, without a GPU, and says what each takes of it.

    PYTHONPATH=src:tests python -m models.kernels.compiling [80 90]

One line a kernel: registers, bytes of stack (spilt registers), shared memory. Triton brings the assembler along.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import triton
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.experimental.gluon import language as gl
from triton.experimental.gluon._runtime import GluonASTSource, GluonJITFunction

from upres.models.kernels.blocks import AMPERE, HOPPER
from upres.models.kernels.fused import (
    blocks,
    choice,
    convolution,
    eights,
    few_channels,
    frame_convolution,
    frame_norm,
    halving,
    heads,
    hopper_blocks,
    hopper_eights,
    rows,
    softmax,
    unfolded,
    whole_heads,
)
from upres.restore import fused_lab

SHARED_MEMORY = {80: 163 * 1024, 90: 227 * 1024}  # bytes a block may have (CUDA programming guide, table of features)
POINTERS = {"bf16": "*bf16", "fp32": "*fp32", "fp8": "*fp8e4nv", "i32": "*i32", "i64": "*i64",
            "u8": "*u8"}


@dataclass(frozen=True)
class Case:
    kernel: Any
    pointers: Mapping[str, str]
    constants: Mapping[str, Any]
    warps: int
    stages: int = 3
    longs: tuple[str, ...] = ()
    floats: tuple[str, ...] = ("eps", "factor", "scale")
    odd: tuple[str, ...] = field(default=("rows", "blocks", "frames", "height", "width", "entry_frames"))

    def source(self) -> ASTSource:
        names = self.kernel.arg_names
        signature = {}
        for name in names:
            if name in self.pointers:
                signature[name] = POINTERS.get(self.pointers[name], self.pointers[name])
            elif name in self.constants:
                signature[name] = "constexpr"
            else:
                signature[name] = "fp32" if name in self.floats else "i64" if name in self.longs else "i32"
        divisible = [n for n in names if signature[n][0] == "*" or (signature[n][0] == "i" and n not in self.odd)]
        attributes = {(names.index(name),): [["tt.divisibility", 16]] for name in divisible}
        source = GluonASTSource if isinstance(self.kernel, GluonJITFunction) else ASTSource
        return source(fn=self.kernel, signature=signature, constexprs=dict(self.constants), attrs=attributes)


@dataclass(frozen=True)
class Use:
    registers: int
    stack: int
    shared: int


def compiled(case: Case, capability: int) -> Use:
    options = {"num_warps": case.warps, "num_stages": case.stages}
    made = triton.compile(case.source(), target=GPUTarget("cuda", capability, 32), options=options)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(made.asm["cubin"])
        command = [knobs.nvidia.cuobjdump.path, "-res-usage", str(file)]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    registers, stack = (int(re.search(rf"{name}:(\d+)", report)[1]) for name in ("REG", "STACK"))  # type: ignore[index]
    return Use(registers, stack, made.metadata.shared)


def cases(capability: int) -> Iterator[tuple[str, Case]]:
    strides = ("batch_stride", "frame_stride", "out_batch_stride", "out_frame_stride")
    for c in (128, 256, 512):
        tile = {"C": c, "BC": c, "BR": frame_norm.TILE // c}
        yield f"sums {c}", Case(frame_norm._sums, {"x": "bf16", "partial": "fp32"}, tile, 8, longs=strides)
        pointers = dict.fromkeys(("pivots", "weight", "bias", "before"), "bf16")
        pointers |= {"partial": "fp32", "affine": "fp32"}
        yield f"affine {c}", Case(frame_norm._affine, pointers, {"C": c, "SIZE": c // 32, "BS": c // 32,
                                  "BB": 64, "BEFORE": True}, 4, longs=strides)  # fmt: skip
        yield f"total {c}", Case(frame_norm._total, {"h": "bf16", "x": "bf16", "bias": "bf16", "partial": "fp32",
                                 "pivots": "fp32"}, {**tile, "BR": frame_norm.HALF_TILE // c}, 8)  # fmt: skip
        for out in ("bf16", "fp8") if capability >= 89 else ("bf16",):
            yield f"apply {c} {out}", Case(frame_norm._apply, {"x": "bf16", "affine": "fp32", "out": out},
                                           {**tile, "SILU": True, "FP8": out == "fp8"}, 8, longs=strides)  # fmt: skip
    yield "softmax", Case(softmax._softmax, {"scores": "fp32", "out": "bf16"}, {"B": softmax.BLOCK}, 8)
    yield from _transformer(capability)
    yield from _few_channels()
    yield from _lab()
    yield from _flashvsr(capability)
    for tuning in (HOPPER, AMPERE):
        pointers = {"q": "bf16", "k": "bf16", "v": "bf16", "out": "bf16", "numbers": "i32", "counts": "i32"}
        yield f"attention {tuning.keys}", Case(
            blocks._attend, pointers, {"DIM": 128, "KEYS": tuning.keys, "BLOCK": 128}, tuning.warps, tuning.stages,
            odd=("query_blocks", "listed"),
        )  # fmt: skip
    if capability == 90:
        yield from _hopper()
    if capability >= 89:
        for turned in (False, True):
            pointers = {"x": "bf16", "out": "fp8", "scales": "fp32", "means": "fp32"}
            yield f"eights {turned}", Case(eights._rounded, pointers,
                                           {"TOKENS": 128, "DIM": 128, "TURNED": turned}, 8)  # fmt: skip
        tiles = [(128, None, convolution.TALL), (256, None, convolution.WIDE), (256, None, convolution.SMALL)]
        tiles += [(512, convolution.PROMOTED, convolution.TALL)] if capability == 90 else []
        for c, promoted, tile in tiles:
            sizes = {"C": c, "N": c, "KT": 3, "KH": 3, "KW": 3, "PAD": 1, "BIASED": False, "PROMOTED": promoted,
                     "BM": tile.pixels, "BN": tile.outputs, "BK": tile.inputs}  # fmt: skip
            pointers = {"x": "fp8", "weight": "fp8", "scales": "fp32", "bias": "fp32", "out": "bf16"}
            label = f"convolution {c}{', promoted' if promoted else ''}"
            yield label, Case(convolution._convolved, pointers, sizes, tile.warps, tile.stages,
                                           longs=("batch_stride",))  # fmt: skip


def _hopper() -> Iterator[tuple[str, Case]]:
    lists = {"numbers": "i32", "counts": "i32", "order": "i32", "out": "bf16"}
    for name, kind, module in (("bf16", gl.bfloat16, hopper_blocks), ("fp8e4nv", gl.float8e4nv, hopper_eights)):
        halved = 64 if module is hopper_eights else 128
        tiles = {part: f"tensordesc<{name}[{rows}, 128],{gl.NVMMASharedLayout.get_default_for([rows, 128], kind)!r}>"
                 for part, rows in (("q", 64), ("k", 128), ("v", halved))}  # fmt: skip
        scales = {scale: "fp32" for scale in ("q_scales", "k_scales", "v_scales") if scale in module._attend.arg_names}
        yield f"attention {name}", Case(module._attend, {**tiles, **scales, **lists},
                                        {"DIM": 128, "BLOCK": 128, "STAGES": module.STAGES}, 4,
                                        odd=("query_blocks", "key_blocks", "listed"))  # fmt: skip


def _transformer(capability: int) -> Iterator[tuple[str, Case]]:
    for eight in (False, True) if capability >= 89 else (False,):
        out = {"out": "fp8" if eight else "bf16", "scales": "fp32"}
        label = " fp8" if eight else ""
        for columns in (2560, 3072):
            sizes = _row(columns)
            pointers = {"x": "bf16", "change": "bf16", "gate": "fp32", "shift": "fp32", "scale": "fp32",
                        "summed": "bf16", **out}  # fmt: skip
            yield f"modulated {columns}{label}", Case(rows._modulated, pointers,
                                                      {**sizes[0], "CHANGED": True, "GATED": True, "CENTRED": False,
                                                       "FP8": eight}, sizes[1])  # fmt: skip
            pointers = {"x": "bf16", "rows": "i64", **out}
            yield f"taken {columns}{label}", Case(rows._taken, pointers, {**sizes[0], "FP8": eight}, sizes[1])
        sizes = _row(6912)
        yield f"swiglu{label}", Case(rows._swiglu, {"gate": "bf16", "x": "bf16", **out}, {**sizes[0], "FP8": eight},
                                     sizes[1])  # fmt: skip
        sizes = _row(12288)
        yield f"gelu{label}", Case(rows._gelu, {"x": "bf16", **out}, {**sizes[0], "FP8": eight}, sizes[1])
    pointers = dict.fromkeys(("first", "second", "first_q", "first_k", "second_q", "second_k", "q", "k", "v"), "bf16")
    for count in (20, 24):
        sizes = {"HEADS": count, "BH": 32, "DIM": 128, "FREQUENCIES": 21}
        yield f"heads {count}", Case(heads._packed, {**pointers, "at": "i32", "table": "fp32"}, sizes, 4,
                                     odd=("first_rows",))  # fmt: skip


def _few_channels() -> Iterator[tuple[str, Case]]:
    pointers = dict.fromkeys(("x", "weight", "bias", "out"), "bf16")
    yield "few channels in", Case(few_channels._entered, pointers,
                                  {"FEW": 3, "N": 128, "K": few_channels.WIDE, "BIASED": True,
                                   "BM": few_channels.PIXELS}, 4, odd=("pixels", "height", "width"))  # fmt: skip
    yield "few channels out", Case(few_channels._left, {"x": "bf16", "weight": "bf16", "planes": "fp32"},
                                   {"C": 128, "WIDE": few_channels.WIDE, "USED": 27, "BM": few_channels.PIXELS}, 4,
                                   odd=("entries", "size"))  # fmt: skip


    tile = halving.SQUARE
    for c, taps in ((128, 1), (512, 3)):
        constants = {"C": c, "N": c, "KT": taps, "STEP": min(2, taps), "BIASED": True, "BM": tile.pixels,
                     "BN": tile.outputs, "BK": tile.inputs}  # fmt: skip
        yield f"halved {c}", Case(halving._halved, pointers, constants, tile.warps, tile.stages,
                                  odd=("pixels", "height", "width"))  # fmt: skip


def _lab() -> Iterator[tuple[str, Case]]:
    block = {"B": fused_lab.BLOCK}
    yield "blurred", Case(fused_lab._blurred, dict.fromkeys(("x", "out"), "fp32"), block, 4, odd=("width", "radius"))
    pointers = {**dict.fromkeys(("low", "restored", "source"), "fp32"), "ours": "i32", "theirs": "i32"}
    yield "to lab", Case(fused_lab._to_lab, pointers, {**block, **fused_lab.TO_WHITE}, 4)
    yield "to rgb", Case(fused_lab._to_rgb, {"matched": "fp32", "ours": "i32", "out": "fp32"},
                         {**block, **fused_lab.FROM_WHITE}, 4, floats=("kept",))  # fmt: skip
    yield "runs started", Case(fused_lab._started, {"run": "i32", "starts": "i32"}, block, 4)
    pointers = {"run": "i32", "starts": "i32", "samples": "i32", "positions": "i64", "out": "fp32"}
    yield "runs matched", Case(fused_lab._matched, pointers, block, 4)


def _flashvsr(capability: int) -> Iterator[tuple[str, Case]]:
    sides = ("pixels", "height", "width")
    square, doubled = frame_convolution.SQUARE, {"SIDE": 2, "GROWN": 2, "LAST": 0}
    shapes = [("doubled", square, doubled), ("last two", square, {"SIDE": 3, "GROWN": 1, "LAST": 27})]
    if capability == 90:
        shapes.append(("doubled, wide", frame_convolution.WIDE, doubled))
    for label, tile, sizes in shapes:
        pointers = dict.fromkeys(("x", "weight", "out", "last"), "bf16")
        shape = {"BM": tile.pixels, "BN": tile.outputs, "BK": tile.inputs}
        constants = {"C": 128, "N": 128, "RELU": True, **shape, **sizes}
        yield label, Case(frame_convolution._convolved, pointers, constants, tile.warps, tile.stages, odd=sides)
    yield "paired", Case(frame_convolution._paired, dict.fromkeys(("x", "before", "out"), "bf16"),
                         {"C": 128, "BC": 128, "B": 64}, 8, odd=("pixels", "size"))  # fmt: skip
    yield "planes summed", Case(frame_convolution._summed, dict.fromkeys(("planes", "bias", "out"), "bf16"),
                                {"OUTPUTS": 3, "B": frame_convolution.ROWS}, 4, odd=sides)  # fmt: skip
    pointers = {**dict.fromkeys(("qkv", "norm_q", "norm_k", "q", "k", "v"), "bf16"), "rotation": "fp32"}
    yield "heads normed together", Case(whole_heads._placed, pointers, {"HEADS": 12, "BH": 16, "DIM": 128}, 4)
    yield "means of windows", Case(whole_heads._means, {"x": "bf16", "out": "fp32"}, {"TOKENS": 128, "DIM": 128}, 4)
    odd = ("keys", "windows")
    yield "pairs weighed", Case(choice._weighed, {"scores": "fp32", "near": "u8"}, {"B": 1024}, 4, odd=odd)
    yield "pairs listed", Case(choice._listed, {"weights": "fp32", "thresholds": "fp32", "numbers": "i32",
                               "counts": "i32"}, {"B": 1024}, 4, odd=odd)  # fmt: skip
    yield "unfolded", Case(unfolded._gathered, {"x": "bf16", "out": "bf16"}, {"C": 2048, "BC": 2048, "TAPS": 4}, 4,
                           odd=("first", "height", "width", "stride"))  # fmt: skip


def _row(columns: int) -> tuple[dict[str, int], int]:
    sizes = rows._sizes(columns)
    warps = sizes.pop("num_warps")
    return sizes, warps


def main() -> None:
    for capability in map(int, sys.argv[1:] or ("80", "90")):
        for label, case in cases(capability):
            use = compiled(case, capability)
            print(f"sm_{capability} {label:24} {use.registers:4} registers {use.stack:5} stack {use.shared:7} shared")


if __name__ == "__main__":
    main()
