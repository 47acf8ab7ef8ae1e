"""Small matrix products with their sizes in the code: all of k unrolled, one vector of columns at a time.

    void direct(ptr a, ptr b, ptr c)

A batch of small matrices (`schedule.plan.is_direct`) spends more time in the shared functions' loops than in its
multiplications. Each element is the sum that those functions make of it: a chain of fused multiply-adds from zero, k
ascending.
"""

from __future__ import annotations

import itertools

from adjit.codegen.gemm import sizes_for
from adjit.codegen.gemm.microkernel import multiply_add
from adjit.codegen.llvm import PTR, VOID, Function, Module, Value, int_literal, literal
from adjit.schedule.work import Product
from adjit_runtime.target import Target


def emit_direct(module: Module, name: str, work: Product, target: Target) -> Function:
    """Write the function of one pair of matrices; its C lies as `work` says, or row after row in scratch memory."""
    sizes = sizes_for(work.dtype, target)
    f = module.function(f"{name}_direct", VOID, [(PTR, "a"), (PTR, "b"), (PTR, "c")], internal=True)
    a, b, c = f.params
    ty, lanes = sizes.ty, sizes.lanes
    c_row = work.n if work.scratch else work.c_row
    # Beside the sums: a vector of B and one for an element of A.
    groups = -(-work.m // (sizes.registers - 4))
    bounds = [work.m * number // groups for number in range(groups + 1)]

    def columns(j: Value, _: list[Value]) -> list[Value]:
        b_at, c_at = f.element(b, ty, j), f.element(c, ty, j)
        for low, high in itertools.pairwise(bounds):
            sums = [literal(sizes.vector, 0)] * (high - low)
            for p in range(work.k):
                vector = f.load(f.element(b_at, ty, p * work.b_strides[0]), sizes.vector)
                for r in range(low, high):
                    place = f.element(a, ty, r * work.a_strides[0] + p * work.a_strides[1])
                    scalar = f.splat(f.load(place, ty), lanes)
                    sums[r - low] = multiply_add(f, sizes, scalar, vector, sums[r - low])
            for r in range(low, high):
                f.store(sums[r - low], f.element(c_at, ty, r * c_row))
        return []

    whole = work.n // lanes * lanes
    f.loop(0, whole, lanes, [], columns)
    if whole < work.n:
        # Some columns twice: they are the same again.
        columns(int_literal(work.n - lanes), [])
    f.ret()
    return f
