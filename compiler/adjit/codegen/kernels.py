"""One emitter for each kind of kernel: a `Work` becomes a function of the module.

Kernels take one pointer for each parameter. A product takes its packing memory too; a check also takes the
report and returns 0, or its number + 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from adjit.codegen.access import Scope, TileAccess
from adjit.codegen.analysis import analyse, lanes_of, vector_dimension
from adjit.codegen.gemm import gemm_flags
from adjit.codegen.lanes import Lanes
from adjit.codegen.llvm import I64, PTR, VOID, Function, Module, Value, int_literal, literal, memory_type
from adjit.codegen.nest import Nest
from adjit.ir.types import dtype_name
from adjit.schedule.plan import Body, CheckRange, Loop, Product, Running, Scatter, Single, Tiles, Work
from adjit_runtime.target import Target


def emit_kernel(module: Module, name: str, work: Single, target: Target) -> Function:
    """Write the function of one kernel."""
    if 0 in _extents(work):
        return _emit_nothing(module, name, work)
    if isinstance(work, Loop):
        return _emit_loop(module, name, work, target)
    if isinstance(work, Product):
        return _emit_product(module, name, work, target)
    if isinstance(work, Running):
        return _emit_running(module, name, work, target)
    if isinstance(work, Scatter):
        return _emit_scatter(module, name, work, target)
    return _emit_check(module, name, work)


def emit_tiles(module: Module, name: str, work: Tiles, functions: Mapping[Work, Function]) -> Function:
    """Write a loop over tiles, which calls the functions of its steps; the last parameter is memory for packing."""
    names = [(PTR, f"p{i}") for i in range(len(work.extents))] + [(PTR, "workspace")]
    function = module.function(name, VOID, names, internal=True)
    *params, workspace = function.params

    def tile(i: Value, _: list[Value]) -> list[Value]:
        f = function
        for step in work.steps:
            arguments = []
            for number, start, stride in step.params:
                at = f.offset(params[number], start)
                arguments.append(f.offset(at, f.mul(i, stride)) if stride else at)
            if isinstance(step.work, Product):
                arguments.append(workspace)
            f.call(functions[step.work].name, VOID, arguments)
        return []

    function.loop(0, work.count, 1, [], tile)
    function.ret()
    return function


def _extents(work: Single) -> tuple[int, ...]:
    if isinstance(work, Product):
        return (work.m, work.n, *(entry[0] for entry in work.batch))
    return work.body.domain


def _emit_nothing(module: Module, name: str, work: Single) -> Function:
    """A kernel without elements touches no memory: the loads that stand before its loops would."""
    if isinstance(work, CheckRange):
        function = module.function(name, I64, [(PTR, f"p{i}") for i in range(len(work.body.params) + 1)], internal=True)
        function.ret(int_literal(0))
        return function
    count = (
        len(work.body.params)
        if not isinstance(work, Product)
        else 4 + len(work.epilogue.params if work.epilogue else ())
    )
    count += isinstance(work, Scatter)
    function = module.function(name, VOID, [(PTR, f"p{i}") for i in range(count)], internal=True)
    function.ret()
    return function


def _open(module: Module, name: str, body: Body, extra: int = 0) -> tuple[Function, list[Value]]:
    names = [(PTR, f"p{i}") for i in range(len(body.params) + extra)]
    function = module.function(name, VOID, names, internal=True)
    return function, function.params


def _emit_loop(module: Module, name: str, work: Loop, target: Target) -> Function:
    body = work.body
    function, params = _open(module, name, body)
    lanes = lanes_of(body, target.vector_bytes)
    vector = vector_dimension(body, lanes, range(len(body.domain)))
    Nest(function, body, dict(enumerate(params)), lanes, vector).run()
    function.ret()
    return function


def _emit_running(module: Module, name: str, work: Running, target: Target) -> Function:
    body = work.body
    function, params = _open(module, name, body)
    lanes = lanes_of(body, target.vector_bytes)
    free = [d for d in range(len(body.domain)) if d not in body.reduced]
    vector = vector_dimension(body, lanes, free)
    Nest(function, body, dict(enumerate(params)), lanes, vector, running=True, reverse=work.reverse).run()
    function.ret()
    return function


def _emit_scatter(module: Module, name: str, work: Scatter, target: Target) -> Function:
    body = work.body
    function, params = _open(module, name, body, extra=1)
    last = len(body.domain) - 1
    along = analyse(body).varies[work.at]
    wide = last >= 0 and work.coefficients[last] == 1 and last not in along and body.domain[last] > 1
    lanes = lanes_of(body, target.vector_bytes)
    dtype = body.code[work.value].dtype
    memory = memory_type(dtype)

    def sink(nest: Nest, scope: Scope) -> None:
        f = function
        at = scope.values[work.at].value
        at = f.intrinsic("umin", at.ty, (at, literal(at.ty, max(work.size - 1, 0))))
        offset = f.mul(at, work.stride)
        for d, c in enumerate(work.coefficients):
            if c:
                offset = f.add(offset, f.mul(scope.index[d], c))
        address = f.element(params[0], memory, offset)
        kit = Lanes(f, lanes if wide else 0)
        value = nest._widened(work.value, scope) if wide else scope.values[work.value]
        ty = memory.vector(lanes if wide else 0)
        if work.add:
            old = f.load(address, ty) if scope.mask is None else f.masked_load(address, ty, scope.mask)
            value = kit.wrap(old, dtype) + value
        raw = nest.to_memory(value.value, dtype)
        if wide:
            nest.store_lanes(raw, address, 1, scope.mask)
        else:
            f.store(raw, address)

    pointers = {i + 1: pointer for i, pointer in enumerate(params[1:])}
    Nest(function, body, pointers, lanes, last if wide else None, sink=sink).run()
    function.ret()
    return function


def _emit_check(module: Module, name: str, work: CheckRange) -> Function:
    body = work.body
    names = [(PTR, f"p{i}") for i in range(len(body.params))] + [(PTR, "report")]
    function = module.function(name, I64, names, internal=True)
    *params, report = function.params

    def sink(nest: Nest, scope: Scope) -> None:
        f = function
        lane = scope.values[work.at]
        at = lane.value
        wide = at if at.ty == I64 else f.convert("zext" if lane.dtype.kind == "u" else "sext", at, I64)
        if lane.dtype.kind == "u":
            bad = f.compare("uge", wide, int_literal(work.high))
        else:
            low = f.compare("slt", wide, int_literal(work.low))
            bad = f.binary("or", low, f.compare("sge", wide, int_literal(work.high)))
        f.return_if(bad, int_literal(work.number + 1), lambda: f.store(wide, report))

    Nest(function, body, dict(enumerate(params)), 0, None, sink=sink).run()
    function.ret(int_literal(0))
    return function


def _emit_product(module: Module, name: str, work: Product, target: Target) -> Function:
    epilogue = _emit_epilogue(module, f"{name}_epilogue", work, target) if work.epilogue is not None else None
    count = len(work.epilogue.params) if work.epilogue is not None else 0
    names = [(PTR, f"p{i}") for i in range(3 + count)] + [(PTR, "workspace")]
    function = module.function(name, VOID, names, internal=True)
    a, b, c, *others = function.params[: 3 + count]
    workspace = function.params[-1]
    context = literal(PTR, 0)
    if epilogue is not None:
        context = function.alloca(PTR, count + 1)
        for i, pointer in enumerate(others):
            function.store(pointer, function.element(context, PTR, i + 1))
    memory = memory_type(work.dtype)
    flags = gemm_flags(work.dtype, work.m, work.n, work.k, work.a_strides, work.b_strides, target, scratch=work.scratch)

    def multiply(indices: list[Value]) -> None:
        f = function
        places = []
        for pointer, which in ((a, 1), (b, 2), (c, 3)):
            offset = int_literal(0)
            for index, entry in zip(indices, work.batch, strict=True):
                offset = f.add(offset, f.mul(index, entry[which]))
            places.append(f.element(pointer, memory, offset))
        if epilogue is not None:
            linear = int_literal(0)
            for index, entry in zip(indices, work.batch, strict=True):
                linear = f.add(f.mul(linear, entry[0]), index)
            f.store(linear, context)
        arguments = [
            *(int_literal(size) for size in (work.m, work.n, work.k)),
            places[0], *(int_literal(stride) for stride in work.a_strides),
            places[1], *(int_literal(stride) for stride in work.b_strides),
            places[2], int_literal(work.n), workspace, int_literal(flags),
            Value(PTR, f"@{epilogue.name}") if epilogue is not None else literal(PTR, 0),
            context,
        ]  # fmt: skip
        f.call(f"adjit_gemm_{dtype_name(work.dtype)}", VOID, arguments)

    _nested(function, [entry[0] for entry in work.batch], multiply)
    function.ret()
    return function


def _nested(function: Function, extents: list[int], body: Callable[[list[Value]], None]) -> None:
    """Plain loops over a static domain."""

    def level(depth: int, indices: list[Value]) -> None:
        if depth == len(extents):
            body(indices)
        else:

            def inside(i: Value, _: list[Value]) -> list[Value]:
                level(depth + 1, [*indices, i])
                return []

            function.loop(0, extents[depth], 1, [], inside)

    level(0, [])


def _emit_epilogue(module: Module, name: str, work: Product, target: Target) -> Function:
    body = work.epilogue
    assert body is not None
    signature = [
        (PTR, "context"), (I64, "unused"), (PTR, "tile"), (I64, "row"),
        (I64, "i0"), (I64, "i1"), (I64, "j0"), (I64, "j1"),
    ]  # fmt: skip
    function = module.function(name, VOID, signature, internal=True)
    context, _, tile, row, i0, i1, j0, j1 = function.params
    batch = function.load(context, I64)
    pointers = {3 + i: function.load(function.element(context, PTR, i + 1), PTR) for i in range(len(body.params))}
    lanes = lanes_of(body, target.vector_bytes)
    ranges: dict[int, tuple[Value | int, Value | int]] = {
        0: (batch, function.add(batch, 1)),
        1: (i0, i1),
        2: (j0, j1),
    }
    access = TileAccess(tile, row, i0, j0, 1, 2)
    nest = Nest(function, body, pointers, lanes, 2, ranges=ranges, masked_only=target.masks, tile=access)
    nest.run()
    function.ret()
    return function
