"""Kernel of eights.py for Hopper, in Gluon: hopper_blocks.py with both products of 8-bit floats, at twice the rate.

Tensor cores add 8-bit products with 14 bits: over 200 blocks of keys a quarter of the sums was lost. So weights of one
block and its values are multiplied into sums of their own, half of a head at a time, as there are no more registers.
What scales the sums to the next largest score also takes them from one block's scale of values to the next one's. No
interpreter runs it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import mbarrier, tma, warpgroup_mma, warpgroup_mma_wait
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from upres.models.kernels.blocks import BLOCK
from upres.models.kernels.eights import Keys, Queries
from upres.models.kernels.fused.blocks import LOG2_E
from upres.models.kernels.switch import launched

HALF = 64  # queries of a group: what its tensor cores take at once
STAGES = 4  # blocks of keys, and of values, under way
RAISED = gl.constexpr(8.0)  # weights, at most one, are multiplied by 2^8: small ones keep their 3 bits


@gluon.jit
def _fetch(q, k, v, numbers, count, key_blocks, row, head, heads, queries, keys, values, q_there, k_there, k_free,
           v_there, v_free, BLOCK: gl.constexpr, DIM: gl.constexpr, STAGES: gl.constexpr):  # fmt: skip
    mbarrier.expect(q_there, BLOCK * DIM)
    tma.async_copy_global_to_shared(q, [row, head * DIM], q_there, queries.index(0))
    tma.async_copy_global_to_shared(q, [row + BLOCK // 2, head * DIM], q_there, queries.index(1))
    for step in range(count):
        stage = step % STAGES
        turn = (step // STAGES) & 1
        number = gl.minimum(gl.maximum(gl.load(numbers + step), 0), key_blocks - 1)  # it may see nothing: any
        mbarrier.wait(k_free.index(stage), turn ^ 1)
        mbarrier.expect(k_there.index(stage), BLOCK * DIM)
        tma.async_copy_global_to_shared(k, [number * BLOCK, head * DIM], k_there.index(stage), keys.index(stage))
        mbarrier.wait(v_free.index(stage), turn ^ 1)
        mbarrier.expect(v_there.index(stage), BLOCK * DIM)
        line = (number * heads + head) * DIM
        tma.async_copy_global_to_shared(v, [line, 0], v_there.index(stage), values.index(2 * stage))
        tma.async_copy_global_to_shared(v, [line + DIM // 2, 0], v_there.index(stage), values.index(2 * stage + 1))


@gluon.jit
def _words(weights, ROWS: gl.constexpr, BLOCK: gl.constexpr, layout: gl.constexpr):
    """Where a thread's weights lie after one product, taken for where the next one wants them (eights.py, order), in
    words of four.
    """
    parts = weights.reshape([ROWS, BLOCK // 32, 2, 2, 4, 2]).permute((0, 1, 2, 4, 3, 5)).reshape([ROWS, BLOCK])
    words = gl.inline_asm_elementwise(
        """{ .reg .b16 low, high;
        cvt.rn.satfinite.e4m3x2.f32 low, $5, $4;
        cvt.rn.satfinite.e4m3x2.f32 high, $7, $6;
        mov.b32 $0, {low, high}; mov.b32 $1, $0; mov.b32 $2, $0; mov.b32 $3, $0; }""",
        "=r,=r,=r,=r,r,r,r,r", [gl.convert_layout(parts, layout, assert_trivial=True)], dtype=gl.int32, is_pure=True,
        pack=4)  # fmt: skip
    pairs, _ = words.reshape([ROWS, BLOCK // 4, 2, 2]).split()
    first, _ = pairs.split()
    return first


@gluon.jit
def _operand(words, zero, ROWS: gl.constexpr, BLOCK: gl.constexpr, layout: gl.constexpr):
    wide = words.expand_dims(2).broadcast_to([ROWS, BLOCK // 4, 4]).reshape([ROWS, BLOCK])
    wide = gl.convert_layout(wide, layout, assert_trivial=True)
    return gl.inline_asm_elementwise("add.s32 $0, $1, $5;", "=r,r,r,r,r,r,r,r,r", [wide, zero], dtype=gl.float8e4nv,
                                     is_pure=False, pack=4)  # fmt: skip


@gluon.jit
def _at(number, key_blocks, heads, head):
    """Where the scales of a block of keys are; of a window that sees nothing any block."""
    return gl.minimum(gl.maximum(number, 0), key_blocks - 1) * heads + head


@gluon.jit
def _weighed(scores, factor, top, total, shrink, ROWS: gl.constexpr, BLOCK: gl.constexpr, layout: gl.constexpr):
    wide = gl.exp2(scores * factor - (top - RAISED)[:, None])
    return _words(wide, ROWS, BLOCK, layout), total * shrink + gl.sum(wide, axis=1)


@gluon.jit
def _tile(row, stride, column, ROWS: gl.constexpr, COLUMNS: gl.constexpr, layout: gl.constexpr):
    rows = row + gl.arange(0, ROWS, gl.SliceLayout(1, layout))
    columns = column + gl.arange(0, COLUMNS, gl.SliceLayout(0, layout))
    return rows.to(gl.int64)[:, None] * stride + columns[None, :]


@gluon.jit
def _written(sums, shrink, weights, values, nothing, share, out):
    adding = warpgroup_mma(weights, values.permute((1, 0)), nothing, use_acc=False, is_async=True)
    sums = (sums * shrink[:, None] + warpgroup_mma_wait(0, deps=[adding])) * share[:, None]
    gl.store(out, sums.to(out.dtype.element_ty))


@gluon.jit
def _multiply(out, stride, sees, count, key_blocks, row, head, heads, numbers, q_scale, k_scales, v_scales, queries,
              keys, values, q_there, k_there, k_free, v_there, v_free, GROUP: gl.constexpr,
              BLOCK: gl.constexpr, DIM: gl.constexpr, STAGES: gl.constexpr):  # fmt: skip
    layout: gl.constexpr = gl.NVMMADistributedLayout(version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, BLOCK, 32])
    half: gl.constexpr = gl.NVMMADistributedLayout(version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, DIM // 2, 32])
    along: gl.constexpr = gl.SliceLayout(1, half)
    operand: gl.constexpr = gl.DotOperandLayout(operand_index=0, parent=half, k_width=4)
    rows: gl.constexpr = BLOCK // 2
    q = queries.index(GROUP)
    zero = sees >> 31  # which the assembler does not know: so it copies weights before others are made in their place
    none = gl.zeros([rows, BLOCK], gl.float32, layout)
    left = gl.zeros([rows, DIM // 2], gl.float32, half)
    right, nothing = left, left
    shrink = gl.zeros([rows], gl.float32, along)
    # scales are looked up a step ahead, and whose they are, two: nothing waits for them
    at = _at(gl.load(numbers), key_blocks, heads, head)
    factor, unit = q_scale * gl.load(k_scales + at), gl.load(v_scales + at)
    at = _at(gl.load(numbers + gl.minimum(1, count - 1)), key_blocks, heads, head)
    next_scale, next_unit = gl.load(k_scales + at), gl.load(v_scales + at)
    number = gl.load(numbers + gl.minimum(2, count - 1))
    mbarrier.wait(q_there, 0)
    mbarrier.wait(k_there.index(0), 0)
    coming = warpgroup_mma(q, keys.index(0).permute((1, 0)), none, use_acc=False, is_async=True)
    scores = warpgroup_mma_wait(0, deps=[coming])
    mbarrier.arrive(k_free.index(0), count=1)
    top = gl.max(scores, axis=1) * factor
    words, total = _weighed(scores, factor, top, gl.zeros_like(top), top, rows, BLOCK, operand)
    mbarrier.wait(k_there.index(1 % STAGES), (1 // STAGES) & 1, pred=count > 1)
    for step in range(1, count):
        stage, before = step % STAGES, (step - 1) % STAGES
        weights = _operand(words, zero, rows, BLOCK, operand)
        coming = warpgroup_mma(q, keys.index(stage).permute((1, 0)), none, use_acc=False, is_async=True)
        mbarrier.wait(v_there.index(before), ((step - 1) // STAGES) & 1)
        adding = warpgroup_mma(weights, values.index(2 * before).permute((1, 0)), nothing, use_acc=False, is_async=True)
        factor, ratio = q_scale * next_scale, unit / next_unit
        unit, at = next_unit, _at(number, key_blocks, heads, head)
        next_scale, next_unit = gl.load(k_scales + at), gl.load(v_scales + at)
        number = gl.load(numbers + gl.minimum(step + 2, count - 1))
        scores = warpgroup_mma_wait(1, deps=[coming])
        mbarrier.arrive(k_free.index(stage), count=1)
        higher = gl.maximum(top, gl.max(scores, axis=1) * factor)
        following, top = gl.exp2(top - higher), higher
        added = warpgroup_mma_wait(0, deps=[adding])
        left = left * shrink[:, None] + added
        adding = warpgroup_mma(weights, values.index(2 * before + 1).permute((1, 0)), nothing, use_acc=False,
                               is_async=True)  # fmt: skip
        coming_words, total = _weighed(scores, factor, top, total, following, rows, BLOCK, operand)
        # Here, so that the assembler, which moves nothing past a loop, does not make the weights after what follows
        mbarrier.wait(k_there.index((step + 1) % STAGES), ((step + 1) // STAGES) & 1, pred=step + 1 < count)
        added, words = warpgroup_mma_wait(0, deps=[adding, coming_words])
        mbarrier.arrive(v_free.index(before), count=1)
        right = right * shrink[:, None] + added
        shrink = gl.convert_layout(following * ratio, along)
    last = (count - 1) % STAGES
    mbarrier.wait(v_there.index(last), ((count - 1) // STAGES) & 1)
    share = gl.convert_layout(gl.where(sees > 0, unit / total, 0.0), along)
    out += _tile(row + GROUP * rows, stride, head * DIM, rows, DIM // 2, half)
    weights = _operand(words, zero, rows, BLOCK, operand)
    _written(left, shrink, weights, values.index(2 * last), nothing, share, out)
    _written(right, shrink, weights, values.index(2 * last + 1), nothing, share, out + DIM // 2)


@gluon.jit
def _attend(q, k, v, q_scales, k_scales, v_scales, numbers, counts, order, out, query_blocks, key_blocks, listed,
            stride, scale, DIM: gl.constexpr, BLOCK: gl.constexpr, STAGES: gl.constexpr):  # fmt: skip
    head = gl.program_id(1)
    heads = gl.num_programs(1)
    block = gl.load(order + head * query_blocks + gl.program_id(0))
    at = head * query_blocks + block
    sees = gl.load(counts + at)
    count = gl.maximum(sees, 1)
    numbers += at.to(gl.int64) * listed
    row = block * BLOCK
    q_scale = gl.load(q_scales + block * heads + head) * scale
    queries = gl.allocate_shared_memory(q.dtype, [2, BLOCK // 2, DIM], q.layout)
    keys = gl.allocate_shared_memory(k.dtype, [STAGES, BLOCK, DIM], k.layout)
    values = gl.allocate_shared_memory(v.dtype, [2 * STAGES, DIM // 2, BLOCK], v.layout)
    q_there = gl.allocate_shared_memory(gl.int64, [1], mbarrier.MBarrierLayout())
    k_there = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    k_free = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    v_there = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    v_free = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    mbarrier.init(q_there, count=1)
    for stage in gl.static_range(STAGES):
        mbarrier.init(k_there.index(stage), count=1)
        mbarrier.init(v_there.index(stage), count=1)
        mbarrier.init(k_free.index(stage), count=2)
        mbarrier.init(v_free.index(stage), count=2)
    gl.warp_specialize([
        (_multiply, (out, stride, sees, count, key_blocks, row, head, heads, numbers, q_scale, k_scales, v_scales,
                     queries, keys, values, q_there, k_there, k_free, v_there, v_free, 0, BLOCK, DIM, STAGES)),
        (_multiply, (out, stride, sees, count, key_blocks, row, head, heads, numbers, q_scale, k_scales, v_scales,
                     queries, keys, values, q_there, k_there, k_free, v_there, v_free, 1, BLOCK, DIM, STAGES)),
        (_fetch, (q, k, v, numbers, count, key_blocks, row, head, heads, queries, keys, values, q_there, k_there,
                  k_free, v_there, v_free, BLOCK, DIM, STAGES)),
    ], [4, 1], [240, 24])  # fmt: skip


@launched
def attend_in_eights(q: Queries, seen: Keys, numbers: Tensor, counts: Tensor) -> Tensor:
    tokens, heads, dim = q.values.shape
    out = torch.empty(tokens, heads, dim, dtype=q.dtype, device=counts.device)
    order = counts.argsort(dim=-1, descending=True).int()  # a head's longest first: nobody waits for one at the end
    blocks = len(seen.values)
    tiles = ((q.values.flatten(1), HALF), (seen.keys.flatten(1), BLOCK), (seen.values.flatten(0, 2), dim // 2))
    _attend[(tokens // BLOCK, heads)](
        *(_described(x, rows) for x, rows in tiles), q.scales, seen.key_scales, seen.value_scales, numbers, counts,
        order, out, tokens // BLOCK, blocks, numbers.shape[-1], heads * dim, dim**-0.5 * LOG2_E, DIM=dim, BLOCK=BLOCK,
        STAGES=STAGES, num_warps=4,
    )  # fmt: skip
    return out


def _described(x: Tensor, rows: int) -> TensorDescriptor:
    """Of tiles of so many rows by 128 bytes."""
    layout = gl.NVMMASharedLayout.get_default_for([rows, BLOCK], gl.float8e4nv)
    return TensorDescriptor(x, list(x.shape), [x.stride(0), 1], [rows, BLOCK], layout)
