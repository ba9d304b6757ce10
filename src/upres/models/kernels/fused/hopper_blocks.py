"""Kernel of blocks.py for Hopper, in Gluon: one warp fetches, two groups of four multiply, each 64 queries.

While the tensor cores multiply the weights of one block of keys with its values, and queries with the next keys, the
other units make weights of the scores that came before (as FlashAttention-3: Shah et al. 2024). No interpreter runs it;
its arithmetic is that of blocks.py.
"""

from __future__ import annotations

import torch
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import mbarrier, tma, warpgroup_mma, warpgroup_mma_wait
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from upres.models.kernels.blocks import BLOCK
from upres.models.kernels.fused.blocks import LOG2_E
from upres.models.kernels.switch import launched

HALF = 64  # queries of a group: what its tensor cores take at once
STAGES = 2  # blocks of keys, and of values, under way


@gluon.jit
def _fetch(q, k, v, numbers, count, key_blocks, row, column, queries, keys, values, q_there, k_there, k_free, v_there,
           v_free, BLOCK: gl.constexpr, DIM: gl.constexpr, STAGES: gl.constexpr):  # fmt: skip
    mbarrier.expect(q_there, BLOCK * DIM * 2)
    tma.async_copy_global_to_shared(q, [row, column], q_there, queries.index(0))
    tma.async_copy_global_to_shared(q, [row + BLOCK // 2, column], q_there, queries.index(1))
    for step in range(count):
        stage = step % STAGES
        turn = (step // STAGES) & 1
        number = gl.load(numbers + step)
        first = gl.minimum(gl.maximum(number, 0), key_blocks - 1) * BLOCK  # of a window that sees nothing: any
        mbarrier.wait(k_free.index(stage), turn ^ 1)
        mbarrier.expect(k_there.index(stage), BLOCK * DIM * 2)
        tma.async_copy_global_to_shared(k, [first, column], k_there.index(stage), keys.index(stage))
        mbarrier.wait(v_free.index(stage), turn ^ 1)
        mbarrier.expect(v_there.index(stage), BLOCK * DIM * 2)
        tma.async_copy_global_to_shared(v, [first, column], v_there.index(stage), values.index(stage))


@gluon.jit
def _multiply(out, stride, sees, count, row, column, scale, queries, keys, values, q_there, k_there, k_free, v_there,
              v_free, GROUP: gl.constexpr, BLOCK: gl.constexpr, DIM: gl.constexpr, STAGES: gl.constexpr):  # fmt: skip
    layout: gl.constexpr = gl.NVMMADistributedLayout(version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, BLOCK, 16])
    operand: gl.constexpr = gl.DotOperandLayout(operand_index=0, parent=layout, k_width=2)
    rows: gl.constexpr = BLOCK // 2
    q = queries.index(GROUP)
    none = gl.zeros([rows, BLOCK], gl.float32, layout)
    sums = gl.zeros([rows, DIM], gl.float32, layout)
    mbarrier.wait(q_there, 0)
    mbarrier.wait(k_there.index(0), 0)
    coming = warpgroup_mma(q, keys.index(0).permute((1, 0)), none, use_acc=False, is_async=True)
    scores = warpgroup_mma_wait(0, deps=[coming])
    mbarrier.arrive(k_free.index(0), count=1)
    top = gl.max(scores, axis=1) * scale
    wide = gl.exp2(scores * scale - top[:, None])
    total = gl.sum(wide, axis=1)
    weights = gl.convert_layout(wide.to(out.dtype.element_ty), operand)
    mbarrier.wait(k_there.index(1 % STAGES), (1 // STAGES) & 1, pred=count > 1)
    for step in range(1, count):
        stage = step % STAGES
        before = (step - 1) % STAGES
        coming = warpgroup_mma(q, keys.index(stage).permute((1, 0)), none, use_acc=False, is_async=True)
        mbarrier.wait(v_there.index(before), ((step - 1) // STAGES) & 1)
        adding = warpgroup_mma(weights, values.index(before), sums, is_async=True)
        scores = warpgroup_mma_wait(1, deps=[coming])
        mbarrier.arrive(k_free.index(stage), count=1)
        higher = gl.maximum(top, gl.max(scores, axis=1) * scale)
        wide = gl.exp2(scores * scale - higher[:, None])
        shrink = gl.exp2(top - higher)
        total = total * shrink + gl.sum(wide, axis=1)
        top = higher
        coming_weights = gl.convert_layout(wide.to(out.dtype.element_ty), operand)
        # Here, so that the assembler, which moves nothing past a loop, does not make the weights after what follows
        mbarrier.wait(k_there.index((step + 1) % STAGES), ((step + 1) // STAGES) & 1, pred=step + 1 < count)
        sums, weights = warpgroup_mma_wait(0, deps=[adding, coming_weights])
        mbarrier.arrive(v_free.index(before), count=1)
        sums = sums * shrink[:, None]
    last = (count - 1) % STAGES
    mbarrier.wait(v_there.index(last), ((count - 1) // STAGES) & 1)
    adding = warpgroup_mma(weights, values.index(last), sums, is_async=True)
    sums = warpgroup_mma_wait(0, deps=[adding])
    share = gl.where(sees > 0, 1.0 / total, 0.0)
    sums = sums * share[:, None]
    line = row + GROUP * rows + gl.arange(0, rows, gl.SliceLayout(1, layout))
    d = column + gl.arange(0, DIM, gl.SliceLayout(0, layout))
    gl.store(out + line.to(gl.int64)[:, None] * stride + d[None, :], sums.to(out.dtype.element_ty))


@gluon.jit
def _attend(q, k, v, numbers, counts, order, out, query_blocks, key_blocks, listed, stride, scale, DIM: gl.constexpr,
            BLOCK: gl.constexpr, STAGES: gl.constexpr):  # fmt: skip
    head = gl.program_id(1)
    block = gl.load(order + head * query_blocks + gl.program_id(0))
    at = head * query_blocks + block
    sees = gl.load(counts + at)
    count = gl.maximum(sees, 1)
    numbers += at.to(gl.int64) * listed
    row, column = block * BLOCK, head * DIM
    queries = gl.allocate_shared_memory(q.dtype, [2, BLOCK // 2, DIM], q.layout)
    keys = gl.allocate_shared_memory(k.dtype, [STAGES, BLOCK, DIM], k.layout)
    values = gl.allocate_shared_memory(v.dtype, [STAGES, BLOCK, DIM], v.layout)
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
        (_multiply, (out, stride, sees, count, row, column, scale, queries, keys, values, q_there, k_there, k_free,
                     v_there, v_free, 0, BLOCK, DIM, STAGES)),
        (_multiply, (out, stride, sees, count, row, column, scale, queries, keys, values, q_there, k_there, k_free,
                     v_there, v_free, 1, BLOCK, DIM, STAGES)),
        (_fetch, (q, k, v, numbers, count, key_blocks, row, column, queries, keys, values, q_there, k_there, k_free,
                  v_there, v_free, BLOCK, DIM, STAGES)),
    ], [4, 1], [240, 24])  # fmt: skip


@launched
def attend_in_blocks(q: Tensor, k: Tensor, v: Tensor, numbers: Tensor, counts: Tensor) -> Tensor:
    """Heads of a row lie side by side; rows may have gaps of 16 bytes' multiples. bfloat16 or float16."""
    queries, heads, dim = q.shape
    out = torch.empty(queries, heads, dim, dtype=q.dtype, device=q.device)
    order = counts.argsort(dim=-1, descending=True).int()  # a head's longest first: nobody waits for one at the end
    parts = (_described(x, rows) for x, rows in ((q, HALF), (k, BLOCK), (v, BLOCK)))
    _attend[(queries // BLOCK, heads)](
        *parts, numbers, counts, order, out, queries // BLOCK, len(k) // BLOCK, numbers.shape[-1], heads * dim,
        dim**-0.5 * LOG2_E, DIM=dim, BLOCK=BLOCK, STAGES=STAGES, num_warps=4,
    )  # fmt: skip
    return out


def _described(x: Tensor, rows: int) -> TensorDescriptor:
    """A tile is so many rows of one head."""
    tokens, heads, dim = x.shape
    kind = gl.bfloat16 if x.dtype == torch.bfloat16 else gl.float16
    layout = gl.NVMMASharedLayout.get_default_for([rows, dim], kind)
    return TensorDescriptor(x, [tokens, heads * dim], [x.stride(0), 1], [rows, dim], layout)
