"""One emitter for each kind of kernel: a `Work` becomes a function of the module, or a part of the one that runs it.

Kernels take one pointer for each parameter. A product takes its packing memory too; a check also takes the
report and returns 0, or its number + 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from adjit.codegen.access import Scope, TileAccess
from adjit.codegen.analysis import analyse, is_long, lanes_of, lanes_together, total_cost, vector_dimension
from adjit.codegen.direct import emit_direct
from adjit.codegen.gemm import (
    MOST_NEAR,
    NEAR,
    TILES,
    blocks_are_wide,
    gemm_flags,
    gemm_scratch_bytes,
    gemm_workspace_bytes,
    product_symbols,
    tiles_for,
)
from adjit.codegen.gemm.microkernel import LINE, prefetch_into_l2
from adjit.codegen.lanes import Lanes
from adjit.codegen.llvm import I64, PTR, VOID, Function, Module, Value, int_literal, literal, memory_type
from adjit.codegen.nest import Nest
from adjit.schedule.plan import (
    Body,
    CheckRange,
    Load,
    Loop,
    Place,
    Product,
    Running,
    Scatter,
    Single,
    Tiles,
    Work,
    is_direct,
)
from adjit.tuned import (
    EPILOGUE_MASKED_VECTORS,
    EPILOGUE_PREFETCH_BYTES,
    LOOP_PART_UNIT,
    LOOP_PARTS,
    MEMORY_BYTES,
    PARALLEL_BYTES_COST,
    PARALLEL_COST,
    PARALLEL_FLOPS,
    PARTS_PER_THREAD,
    PRODUCT_PART_UNIT,
    PRODUCT_PARTS,
    ROWS_TOGETHER,
    SHARED_SCRATCH_BYTES,
    STREAM_AHEAD_LINES,
    TURNED_PACK_COST,
    WHOLE_PARTS_FLOPS,
)
from adjit_runtime.target import Target


def emit_kernel(
    module: Module, name: str, work: Single, target: Target, parallel: bool = True, light: bool = False
) -> Function:
    """Write the function of one kernel; with `parallel` a large one runs on the threads of the pool.

    The code of a `light` one, or of its epilogue, is generated without optimisation."""
    is_check = isinstance(work, CheckRange)
    glue = is_glue(work, target, parallel, light)
    params = [(PTR, f"p{i}") for i in range(_parameters(work))]
    function = module.function(name, I64 if is_check else VOID, params, internal=True, glue=glue)
    write_kernel(function, function.params, name, work, target, parallel, light)
    function.ret(int_literal(0) if is_check else None)
    return function


def is_glue(work: Single, target: Target, parallel: bool, light: bool) -> bool:
    """Whether a kernel's own code only calls others, or is light."""
    if isinstance(work, Loop):
        return light or (parallel and loop_parts(work, target) is not None)
    return light or isinstance(work, Product)


def write_kernel(
    f: Function, params: Sequence[Value], name: str, work: Single, target: Target, parallel: bool, light: bool
) -> None:
    """Write a kernel into `f`, which is still open after it; functions of its own begin with `name`. Where a check
    fails, `f` returns."""
    if 0 in _extents(work):
        # It touches no memory: the loads that stand before its loops would.
        return
    if isinstance(work, Loop):
        _write_loop(f, params, name, work, target, parallel)
    elif isinstance(work, Product):
        _write_product(f, params, name, work, target, parallel, light)
    elif isinstance(work, Running):
        _write_running(f, params, work, target)
    elif isinstance(work, Scatter):
        _write_scatter(f, params, work, target)
    else:
        _write_check(f, params, work)


def _parameters(work: Single) -> int:
    if isinstance(work, Product):
        return 4 + (len(work.epilogue.params) if work.epilogue is not None else 0)
    return len(work.body.params) + isinstance(work, Scatter | CheckRange)


def emit_tiles(
    module: Module, name: str, work: Tiles, functions: Mapping[tuple[Work, bool], Function], target: Target
) -> Function:
    """Write a loop over tiles, which calls the functions of its steps; the last parameter is memory for packing.

    The groups are a job for the threads of the pool. One thread alone takes one after another, where scratch memory is
    large in that of the first, which is near from the group before."""
    count = len(work.extents) + 1
    scratch = count - 2
    job, pointers, group, room = _open_job(module, f"{name}_group", count, glue=True)
    turns = work.extents[scratch] // work.groups >= SHARED_SCRATCH_BYTES
    own = job.minimum(group, job.sub(room, 1)) if turns else group
    products = [step.work for step in work.steps if isinstance(step.work, Product)]
    packing = max((gemm_workspace_bytes(p.dtype, p.m, p.n, p.k, target) for p in products), default=0)
    workspace = job.offset(pointers[-1], job.mul(own, packing))

    def tile(i: Value, _: list[Value]) -> list[Value]:
        known: dict[Place, Value] = {}

        def address(place: Place) -> Value:
            at = job.offset(pointers[place.param], place.start)
            number = own if place.param == scratch else group
            at = job.offset(at, job.mul(number, place.group)) if place.group else at
            return job.offset(at, job.mul(i, place.tile)) if place.tile else at

        for number, step in enumerate(work.steps):
            for place in step.params:
                if place not in known:
                    known[place] = address(place)
            if number:
                _bring_next_near(job, work, known, number - 1)
            arguments = [known[place] for place in step.params]
            if isinstance(step.work, Product):
                arguments.append(workspace)
            job.call(functions[step.work, False].name, VOID, arguments)
        return []

    first, last = (
        job.binary("sdiv", job.mul(at, work.count), int_literal(work.groups)) for at in (group, job.add(group, 1))
    )
    job.loop(first, last, 1, [], tile)
    job.ret()
    function = module.function(name, VOID, [(PTR, f"p{i}") for i in range(count)], internal=True, glue=True)
    if not turns:
        _run_job(function, function.params, job, int_literal(work.groups))
        function.ret()
        return function
    alone = function.compare("sle", function.call("adjit_threads", I64, []), int_literal(1))
    shared = _share(function, function.params, function.select(alone, int_literal(1), int_literal(work.groups)))

    def in_turn() -> list[Value]:
        def one(i: Value, _: list[Value]) -> list[Value]:
            function.call(job.name, VOID, [shared, i])
            return []

        function.loop(0, work.groups, 1, [], one)
        return []

    def together() -> list[Value]:
        function.call("adjit_parallel", VOID, [Value(PTR, f"@{job.name}"), shared, int_literal(work.groups)])
        return []

    function.branch(alone, in_turn, together)
    function.ret()
    return function


def _bring_next_near(job: Function, work: Tiles, known: Mapping[Place, Value], turn: int) -> None:
    """Prefetch some lines of the next tile of what comes from memory, where `Nest` begins to read its rows."""
    for place in work.steps[0].params:
        if place.tile * work.count < MEMORY_BYTES or place.tile < ROWS_TOGETHER * LINE:
            continue
        for part in range(ROWS_TOGETHER):
            start = place.tile + part * (place.tile // ROWS_TOGETHER)
            for line in range(turn * STREAM_AHEAD_LINES, (turn + 1) * STREAM_AHEAD_LINES):
                prefetch_into_l2(job, job.offset(known[place], start + line * LINE))


def _open_job(module: Module, name: str, count: int, glue: bool = False) -> tuple[Function, list[Value], Value, Value]:
    """A function that threads share: it, the `count` pointers of the kernel that runs it, the number of the part that a
    call is for, and the number that `_share` was given: of parts, as a rule."""
    job = module.function(name, VOID, [(PTR, "shared"), (I64, "part")], internal=True, glue=glue)
    shared, part = job.params
    pointers = [job.load(job.element(shared, PTR, number), PTR) for number in range(count)]
    return job, pointers, part, job.load(job.element(shared, I64, count), I64)


def _run_job(function: Function, params: Sequence[Value], job: Function, parts: Value) -> None:
    """Run each part of a job, with the parameters of a kernel."""
    function.call("adjit_parallel", VOID, [Value(PTR, f"@{job.name}"), _share(function, params, parts), parts])


def _share(function: Function, params: Sequence[Value], number: Value) -> Value:
    """The memory that the parts of a job share: the parameters of a kernel, then `number`."""
    shared = function.alloca(PTR, len(params) + 1)
    for i, value in enumerate((*params, number)):
        function.store(value, function.element(shared, PTR, i))
    return shared


def _range_of(f: Function, part: Value, parts: Value, extent: int, unit: int) -> tuple[Value, Value]:
    """The range of one part, in whole units; returns from the function where it is empty."""
    blocks = -(-extent // unit)
    low, high = (
        f.minimum(f.mul(f.binary("sdiv", f.mul(at, blocks), parts), unit), int_literal(extent))
        for at in (part, f.add(part, 1))
    )
    f.return_if(f.compare("sge", low, high))
    return low, high


def _extents(work: Single) -> tuple[int, ...]:
    if isinstance(work, Product):
        return (work.m, work.n, *(entry[0] for entry in work.batch))
    return work.body.domain


def _write_loop(f: Function, params: Sequence[Value], name: str, work: Loop, target: Target, parallel: bool) -> None:
    body = work.body
    lanes = lanes_of(body, target.vector_bytes)
    vector = vector_dimension(body, lanes, range(len(body.domain)))
    lanes = lanes_together(body, lanes, vector, target)
    dim = loop_parts(work, target) if parallel else None
    if dim is None:
        Nest(f, body, dict(enumerate(params)), lanes, vector).run()
        return
    job = _part_of_loop(f.module, f"{name}_part", body, dim, lanes, vector)
    _run_job(f, params, job, _parts(f, LOOP_PARTS))


def _part_of_loop(module: Module, name: str, body: Body, dim: int, lanes: int, vector: int | None) -> Function:
    """The job of one thread: a range of one dimension, along which no element depends on another."""
    f, params, part, parts = _open_job(module, name, len(body.params))
    low, high = _range_of(f, part, parts, body.domain[dim], LOOP_PART_UNIT if dim == vector else 1)
    Nest(f, body, dict(enumerate(params)), lanes, vector, ranges={dim: (low, high)}).run()
    f.ret()
    return f


def loop_parts(work: Loop, target: Target) -> int | None:
    """The dimension along which a loop is cut for several threads, or None where it stays whole."""
    body = work.body
    lanes = lanes_of(body, target.vector_bytes)
    vector = vector_dimension(body, lanes, range(len(body.domain)))
    cost = total_cost(body.code)
    size = math.prod(body.domain)
    if size * (cost + PARALLEL_BYTES_COST) < PARALLEL_COST * lanes:
        return None
    free = [d for d in range(len(body.domain)) if d not in body.reduced and body.domain[d] >= LOOP_PARTS]
    # Columns of a reduction go through the loops together, several vectors at a time.
    free = [d for d in free if not (d == vector and body.reduced)]
    return min(free, default=None)


def _write_running(f: Function, params: Sequence[Value], work: Running, target: Target) -> None:
    body = work.body
    lanes = lanes_of(body, target.vector_bytes)
    free = [d for d in range(len(body.domain)) if d not in body.reduced]
    vector = vector_dimension(body, lanes, free)
    Nest(f, body, dict(enumerate(params)), lanes, vector, running=True, reverse=work.reverse).run()


def _write_scatter(f: Function, params: Sequence[Value], work: Scatter, target: Target) -> None:
    body = work.body
    last = len(body.domain) - 1
    along = analyse(body).varies[work.at]
    wide = last >= 0 and work.coefficients[last] == 1 and last not in along and body.domain[last] > 1
    lanes = lanes_of(body, target.vector_bytes)
    dtype = body.code[work.value].dtype
    memory = memory_type(dtype)

    def sink(nest: Nest, scope: Scope) -> None:
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
    Nest(f, body, pointers, lanes, last if wide else None, sink=sink).run()


def _write_check(f: Function, params: Sequence[Value], work: CheckRange) -> None:
    *places, report = params

    def sink(nest: Nest, scope: Scope) -> None:
        lane = scope.values[work.at]
        at = lane.value
        wide = at if at.ty == I64 else f.convert("zext" if lane.dtype.kind == "u" else "sext", at, I64)
        if lane.dtype.kind == "u":
            bad = f.compare("uge", wide, int_literal(work.high))
        else:
            low = f.compare("slt", wide, int_literal(work.low))
            bad = f.binary("or", low, f.compare("sge", wide, int_literal(work.high)))
        f.return_if(bad, int_literal(work.number + 1), lambda: f.store(wide, report))

    Nest(f, work.body, dict(enumerate(places)), 0, None, sink=sink).run()


def _write_product(
    f: Function, params: Sequence[Value], name: str, work: Product, target: Target, parallel: bool, light: bool
) -> None:
    module = f.module
    epilogue = _emit_epilogue(module, f"{name}_epilogue", work, target, light) if work.epilogue is not None else None
    if parallel and product_parts(work):
        job = _part_of_product(module, f"{name}_part", work, target, epilogue)
        # Each part packs what the others pack, too.
        each = 1 if 2 * work.m * work.n * work.k >= WHOLE_PARTS_FLOPS else PARTS_PER_THREAD
        _run_job(f, params, job, _parts(f, product_parts(work), each))
    else:
        direct = emit_direct(module, name, work, target) if is_direct(work, target.vector_bytes) else None
        _multiply(f, params, work, target, epilogue, (int_literal(0), int_literal(0)), None, direct)


def _parts(f: Function, most: int, each: int = PARTS_PER_THREAD) -> Value:
    """How many parts to make: some for each thread, so that one which comes late does not hold up the others."""
    threads = f.call("adjit_threads", I64, [])
    wanted = f.select(f.compare("sgt", threads, int_literal(1)), f.mul(threads, each), threads)
    return f.minimum(wanted, int_literal(most))


def _beside(work: Product) -> list[int]:
    """The epilogue's parameters that are read element by element along a large C; MOST_NEAR of them at most."""
    if work.epilogue is None or work.batch or work.m * work.n * work.dtype.itemsize < EPILOGUE_PREFETCH_BYTES:
        return []
    found = {
        i.param - 3
        for i in work.epilogue.code
        if isinstance(i, Load)
        and not i.bounds
        and i.dtype.itemsize == work.dtype.itemsize
        and i.coefficients[1:] == (work.c_row, 1)
    }
    return sorted(found)[:MOST_NEAR]


def _part_of_product(module: Module, name: str, work: Product, target: Target, epilogue: Function | None) -> Function:
    """The job of one thread: some of the rows or columns of C, whichever there are more of; tiles stay whole.

    Each element is the same sum whatever the parts, as the form of the whole product is passed with each."""
    f, params, part, parts = _open_job(module, name, _parameters(work), glue=True)
    low, high = _range_of(f, part, parts, work.n if _by_columns(work) else work.m, PRODUCT_PART_UNIT)
    nbytes = gemm_workspace_bytes(work.dtype, work.m, work.n, work.k, target)
    params[-1] = f.offset(params[-1], f.mul(part, nbytes))
    if work.scratch:
        params[2] = f.offset(params[2], f.mul(part, gemm_scratch_bytes(work.dtype, target)))
    start = (int_literal(0), low) if _by_columns(work) else (low, int_literal(0))
    _multiply(f, params, work, target, epilogue, start, f.sub(high, low))
    f.ret()
    return f


def _by_columns(work: Product) -> bool:
    """Whether parts are columns of C: each packs all of A then, as rows pack all of B; what is transposed while it is
    packed takes longer."""
    if 2 * work.m * work.n * work.k < WHOLE_PARTS_FLOPS:
        return work.n > work.m
    a, b = (
        extent * (1 if stride == 1 else TURNED_PACK_COST)
        for extent, stride in ((work.m, work.a_strides[0]), (work.n, work.b_strides[1]))
    )
    return a <= b


def product_parts(work: Product) -> int:
    """Into how many parts a product may be cut; 0 where it stays whole."""
    extent = work.n if _by_columns(work) else work.m
    # An instruction of the epilogue takes as long as a multiply-add.
    each = work.k + (total_cost(work.epilogue.code) if work.epilogue is not None else 0)
    reduces = work.epilogue is not None and work.epilogue.reduced
    alone = work.batch or reduces or work.dtype.kind != "f" or 2 * work.m * work.n * each < PARALLEL_FLOPS
    return 0 if alone or extent < 2 * PRODUCT_PART_UNIT else min(PRODUCT_PARTS, extent // PRODUCT_PART_UNIT)


def product_libraries(work: Product, target: Target, parallel: bool) -> list[str]:
    """The libraries whose functions the kernel of a product calls."""
    cut = parallel and product_parts(work) > 0
    if 0 in _extents(work) or (not cut and is_direct(work, target.vector_bytes)):
        return []
    return [symbol.removeprefix("adjit_") for symbol in _symbols(work, target, cut) if symbol]


def _flags(work: Product, target: Target) -> int:
    return gemm_flags(work.dtype, work.m, work.n, work.k, work.a_strides, work.b_strides, target, scratch=work.scratch)


def _symbols(work: Product, target: Target, cut: bool) -> tuple[str, str]:
    unit = PRODUCT_PART_UNIT if cut else 0
    return product_symbols(work.dtype, work.m, work.n, _flags(work, target), target, unit)


def _multiply(
    f: Function,
    params: Sequence[Value],
    work: Product,
    target: Target,
    epilogue: Function | None,
    start: tuple[Value, Value],
    extent: Value | None,
    direct: Function | None = None,
) -> None:
    """Call the library for each pair of matrices, or `direct` where that is given; of C the part from `start` on,
    `extent` long where it is cut."""
    a, b, c, *others, workspace = params
    row, column = start
    context = literal(PTR, 0)
    beside = _beside(work)
    if epilogue is not None:
        context = f.element(f.alloca(PTR, MOST_NEAR + len(others) + 4), PTR, MOST_NEAR + 1)
        for i, value in enumerate((*others, row, column)):
            f.store(value, f.element(context, PTR, i + 1))
        f.store(int_literal(len(beside)), f.element(context, I64, -1))
        for i in range(MOST_NEAR):
            array = literal(PTR, 0)
            if i < len(beside):
                at = f.add(f.mul(row, work.c_row), column)
                array = f.element(others[beside[i]], memory_type(work.dtype), at)
            f.store(array, f.element(context, PTR, -2 - i))
    memory = memory_type(work.dtype)
    flags = _flags(work, target) | (NEAR if beside else 0)
    symbol, edge = _symbols(work, target, extent is not None)
    if edge:
        f.module.declare(edge, VOID, ())
    m, n = int_literal(work.m), int_literal(work.n)
    if extent is not None:
        m, n = (m, extent) if _by_columns(work) else (extent, n)

    def multiply(indices: list[Value]) -> None:
        places = []
        block = int_literal(0) if work.scratch else f.add(f.mul(row, work.c_row), column)
        skipped = (f.mul(row, work.a_strides[0]), f.mul(column, work.b_strides[1]), block)
        for pointer, which, offset in zip((a, b, c), (1, 2, 3), skipped, strict=True):
            for index, entry in zip(indices, work.batch, strict=True):
                offset = f.add(offset, f.mul(index, entry[which]))
            places.append(f.element(pointer, memory, offset))
        if epilogue is not None:
            linear = int_literal(0)
            for index, entry in zip(indices, work.batch, strict=True):
                linear = f.add(f.mul(linear, entry[0]), index)
            f.store(linear, context)
        if direct is not None:
            f.call(direct.name, VOID, places)
            if epilogue is not None:
                zero, tile_row = int_literal(0), int_literal(work.n if work.scratch else work.c_row)
                f.call(epilogue.name, VOID, [context, places[2], tile_row, zero, m, zero, n])
            return
        arguments = [
            m, n, int_literal(work.k),
            places[0], *(int_literal(stride) for stride in work.a_strides),
            places[1], *(int_literal(stride) for stride in work.b_strides),
            places[2], int_literal(work.c_row), workspace, int_literal(flags),
            Value(PTR, f"@{edge}") if edge else literal(PTR, 0),
            Value(PTR, f"@{epilogue.name}") if epilogue is not None else literal(PTR, 0),
            context,
        ]  # fmt: skip
        f.call(symbol, VOID, arguments)

    _nested(f, [entry[0] for entry in work.batch], multiply)


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


def _blocks_are_whole(work: Product, lanes: int, target: Target) -> bool:
    """Whether the columns of all blocks that the library hands to the epilogue are whole vectors: in the form of tiles
    they begin and end at tiles or at the end."""
    if work.dtype.kind != "f" or work.m == 1 or work.n % lanes or PRODUCT_PART_UNIT % lanes:
        return False
    tiles = tiles_for(work.dtype, target)
    return bool(_flags(work, target) & TILES) and work.n >= tiles.columns and tiles.columns % lanes == 0


def _emit_epilogue(module: Module, name: str, work: Product, target: Target, light: bool) -> Function:
    body = work.epilogue
    assert body is not None
    signature = [
        (PTR, "context"), (PTR, "tile"), (I64, "row"), (I64, "i0"), (I64, "i1"), (I64, "j0"), (I64, "j1"),
    ]  # fmt: skip
    function = module.function(name, VOID, signature, internal=True, glue=light)
    context, tile, row, i0, i1, j0, j1 = function.params
    batch = function.load(context, I64) if work.batch else int_literal(0)
    count = len(body.params)
    pointers = {3 + i: function.load(function.element(context, PTR, i + 1), PTR) for i in range(count)}
    # A part of C has its first row and column elsewhere.
    row0, column0 = (function.load(function.element(context, PTR, count + i), I64) for i in (1, 2))
    i0, i1 = function.add(i0, row0), function.add(i1, row0)
    j0, j1 = function.add(j0, column0), function.add(j1, column0)
    lanes = lanes_of(body, target.vector_bytes)
    cut = product_parts(work) > 0 and _by_columns(work)
    wide = blocks_are_wide(work.dtype, work.n, target) and not cut
    ranges: dict[int, tuple[Value | int, Value | int]] = {
        0: (batch, function.add(batch, 1)) if work.batch else (0, 1),
        1: (i0, i1),
        2: (0, work.n) if wide or body.reduced else (j0, j1),
    }
    access = TileAccess(tile, row, i0, j0, 1, 2)
    # Masked stores are slow on Zen 4: without them a step of 784-512-256-10 takes 3.35 ms in place of 3.5, and one of
    # 64-32-10, whose columns are known as no block is narrower than C, 4.76 us in place of 5.11.
    whole = _blocks_are_whole(work, lanes, target)
    if not body.reduced and is_long(body, target) and _blocks_are_whole(work, 2 * lanes, target):
        lanes *= 2
    few = target.masks and not body.reduced and not whole and not wide and work.n < EPILOGUE_MASKED_VECTORS * lanes
    nest = Nest(function, body, pointers, lanes, 2, ranges=ranges, masked_only=few, whole_only=whole, tile=access)
    nest.run()
    function.ret()
    return function
