"""Calls of LAPACK and BLAS, whose functions lie at addresses that the runtime finds (`adjit_runtime.lapack`).

To them our rows are columns: a matrix of ours is the transpose of theirs. So L of a symmetric matrix is their upper
factor, and a solution of equations one from the right; what has no such form is transposed on the way in and out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from adjit.codegen.llvm import I1, I8, I32, I64, PTR, VOID, Function, Value, int_literal, literal, register_type
from adjit.ops.spectral import qr_shapes, svd_shapes
from adjit.schedule.factors import Factored
from adjit.tuned import ADJOINT_ROWS

LIBRARY = "lapack"
"""The library that has them."""


class Calls:
    """Calls for the matrices of one kernel: arguments lie in memory, as Fortran takes addresses."""

    def __init__(self, f: Function, work: Factored, workspace: Value) -> None:
        self.f = f
        self.work = work
        self.workspace = workspace
        self.ty = register_type(work.dtype)
        self.n = self.integer(work.n)
        self.columns = self.integer(work.columns)
        self.width = self.integer(ADJOINT_ROWS)
        self.info = f.alloca(I32, 1)
        self.one = f.alloca(self.ty, 1)
        f.store(literal(self.ty, 1.0), self.one)

    def integer(self, value: int) -> Value:
        """The address of an integer."""
        place = self.f.alloca(I32, 1)
        self.f.store(literal(I32, value), place)
        return place

    def count(self, value: Value) -> Value:
        """The address of an integer that is known when the program runs."""
        place = self.f.alloca(I32, 1)
        self.f.store(self.f.convert("trunc", value, I32), place)
        return place

    def real(self, value: float) -> Value:
        """The address of a number."""
        place = self.f.alloca(self.ty, 1)
        self.f.store(literal(self.ty, value), place)
        return place

    def letter(self, value: str) -> Value:
        """The address of a letter."""
        place = self.f.alloca(I8, 1)
        self.f.store(literal(I8, ord(value)), place)
        return place

    def call(self, name: str, *args: Value) -> None:
        """Call a function by its name without the letter of the dtype."""
        letter = "s" if self.work.dtype.itemsize == 4 else "d"
        self.f.call(f"adjit_{letter}{name}", VOID, list(args))

    def each(self, body: Callable[[Value, Value], None], rows: Value | int, columns: Value | int) -> None:
        """`body` of each row and column."""

        def row(i: Value, _: list[Value]) -> list[Value]:
            def column(j: Value, _: list[Value]) -> list[Value]:
                body(i, j)
                return []

            self.f.loop(0, columns, 1, [], column)
            return []

        self.f.loop(0, rows, 1, [], row)

    def at(self, place: Value, row: Value, column: Value, columns: int) -> Value:
        """The address of an element."""
        return self.f.element(place, self.ty, self.f.add(self.f.mul(row, columns), column))

    def copy(self, source: Value, target: Value, count: int) -> None:
        """So many elements."""
        nbytes = int_literal(count * self.work.dtype.itemsize)
        self.f.call("llvm.memcpy.p0.p0.i64", VOID, [target, source, nbytes, Value(I1, "false")])

    def clear_above(self, place: Value, rows: Value | int) -> None:
        """Zeros above the diagonal of so many rows, each of n elements."""
        f, rows = self.f, rows if isinstance(rows, Value) else int_literal(rows)

        def row(i: Value, _: list[Value]) -> list[Value]:
            after = f.add(i, 1)
            nbytes = f.mul(f.sub(rows, after), self.work.itemsize)
            start = self.at(place, i, after, self.work.n)
            f.call("llvm.memset.p0.i64", VOID, [start, literal(I8, 0), nbytes, Value(I1, "false")])
            return []

        f.loop(0, rows, 1, [], row)

    def turn(self, source: Value, target: Value, rows: int = 0, columns: int = 0) -> None:
        """A matrix, transposed; a square one where its sizes are not given."""
        f, m, n = self.f, rows or self.work.n, columns or self.work.n
        self.each(lambda i, j: f.store(f.load(self.at(source, i, j, n), self.ty), self.at(target, j, i, m)), m, n)

    def rooms(self, *sizes: int) -> list[Value]:
        """Parts of the workspace of so many elements, and where they end."""
        found, at = [], 0
        for size in sizes:
            found.append(self.f.element(self.workspace, self.ty, at))
            at += _up(size)
        return [*found, self.f.element(self.workspace, self.ty, at)]

    def spoil(self, y: Value, count: int) -> None:
        """NaN in all of a result that LAPACK did not find."""
        f = self.f
        failed = f.compare("ne", f.load(self.info, I32), literal(I32, 0))

        def one(i: Value, _: list[Value]) -> list[Value]:
            f.store(literal(self.ty, float("nan")), f.element(y, self.ty, i))
            return []

        f.branch(failed, lambda: f.loop(0, count, 1, [], one))

    def substitute(self, a: Value, x: Value, lower: bool, transposed: bool, unit: bool) -> None:
        """Solve in place: X^T A^T = B^T has our A as their A^T."""
        flags = [self.letter(c) for c in ("R", "U" if lower else "L", "T" if transposed else "N", "U" if unit else "N")]
        self.call("trsm", *flags, self.columns, self.n, self.one, a, self.n, x, self.columns)

    def product(
        self,
        y: Value,
        sizes: tuple[Value, Value, Value],
        a: Value,
        b: Value,
        *,
        transposed: bool = False,
        scale: float = -1.0,
        keep: float = 1.0,
        a_row: Value | None = None,
        y_row: Value | None = None,
    ) -> None:
        """y = keep * y + scale * a b, or a^T b: of so many rows, columns and sums, rows of n elements where nothing
        else is said. Theirs are the transposes, so that factors change places."""
        m, n, k = sizes
        flags = [self.letter("N"), self.letter("T" if transposed else "N")]
        scales = [self.real(scale), self.real(keep)]
        a_row, y_row = a_row or self.n, y_row or self.n
        self.call("gemm", *flags, n, m, k, scales[0], b, self.n, a, a_row, scales[1], y, y_row)

    def divide(
        self, side: str, turned: str, *, a: Value, a_row: Value, x: Value, x_row: Value, rows: Value, others: Value
    ) -> None:
        """x = x a^-1, or a^-T x with "R" and "T", of a lower triangle of so many rows."""
        flags = [self.letter(c) for c in (side, "U", turned, "N")]
        sizes = (rows, others) if side == "L" else (others, rows)
        self.call("trsm", *flags, *sizes, self.one, a, a_row, x, x_row)


def cholesky(c: Calls, x: Value, y: Value) -> None:
    """potrf of their upper triangle, which is our lower one; zeros above it."""
    n = c.work.n
    c.copy(x, y, n * n)
    c.call("potrf", c.letter("U"), c.n, y, c.n, c.info)
    c.clear_above(y, n)
    c.spoil(y, n * n)


def cholesky_adjoint(c: Calls, factor: Value, g: Value, y: Value) -> None:
    """In the place of the result, by blocks of rows from the last one on, each with what it did to those ahead of it
    (Murray 2016): nearly all of it is products."""
    f, n, width = c.f, c.work.n, ADJOINT_ROWS
    inner = c.workspace
    c.copy(g, y, n * n)

    def block(number: Value, _: list[Value]) -> list[Value]:
        end = f.sub(int_literal(n), f.mul(number, width))
        begin = f.intrinsic("smax", I64, (f.sub(end, width), int_literal(0)))
        rows, ahead, below = (c.count(value) for value in (f.sub(end, begin), begin, f.sub(int_literal(n), end)))
        # What is to the left of the diagonal block, that block, and the same of all rows below.
        (left, own, left_below, own_below), (by_left, by_own, by_left_below, by_own_below) = (
            [c.at(place, row, column, n) for row in (begin, end) for column in (int_literal(0), begin)]
            for place in (factor, y)
        )
        triangle = {"a": own, "a_row": c.n, "rows": rows}
        c.divide("L", "N", x=by_own_below, x_row=c.n, others=below, **triangle)
        c.product(by_left_below, (below, ahead, rows), by_own_below, left)
        c.product(by_own, (rows, rows, below), by_own_below, own_below, transposed=True)
        inside = f.sub(end, begin)
        c.clear_above(by_own, inside)
        c.product(inner, (rows, rows, rows), own, by_own, transposed=True, scale=1.0, keep=0.0, y_row=c.width)
        c.each(lambda i, j: _mirror(c, inner, i, j), inside, inside)
        c.divide("L", "N", x=inner, x_row=c.width, others=rows, **triangle)
        c.divide("R", "T", x=inner, x_row=c.width, others=rows, **triangle)
        c.product(by_left, (rows, ahead, below), by_own_below, left_below, transposed=True)
        c.product(by_left, (rows, ahead, rows), inner, left, a_row=c.width)

        def settle(i: Value, j: Value) -> None:
            value = f.load(c.at(inner, i, j, width), c.ty)
            half = f.binary("fmul", value, literal(c.ty, 0.5))
            f.store(f.select(f.compare("eq", i, j), half, value), c.at(by_own, i, j, n))

        c.each(settle, inside, inside)
        return []

    f.loop(0, -(-n // width), 1, [], block)
    c.clear_above(y, n)


def _mirror(c: Calls, place: Value, i: Value, j: Value) -> None:
    """An element of the lower triangle at the place of the one across the diagonal, too."""
    f = c.f
    below, above = c.at(place, i, j, ADJOINT_ROWS), c.at(place, j, i, ADJOINT_ROWS)
    source = f.select(f.compare("sge", i, j), below, above)
    f.store(f.load(source, c.ty), above)


def lu(c: Calls, x: Value, y: Value) -> None:
    """getrf of the transposed matrix; what its exchanges make of the order of rows."""
    f, n = c.f, c.work.n
    pivots = f.offset(c.workspace, n * n * c.work.itemsize)
    c.turn(x, c.workspace)
    c.call("getrf", c.n, c.n, c.workspace, c.n, pivots, c.info)
    c.turn(c.workspace, y)
    order = f.element(y, c.ty, n * n)

    def number(i: Value, _: list[Value]) -> list[Value]:
        f.store(f.convert("sitofp", i, c.ty), f.element(order, c.ty, i))
        return []

    def exchange(i: Value, _: list[Value]) -> list[Value]:
        other = f.sub(f.convert("sext", f.load(f.element(pivots, I32, i), I32), I64), 1)
        places = [f.element(order, c.ty, at) for at in (i, other)]
        values = [f.load(place, c.ty) for place in places]
        for value, place in zip(values, reversed(places), strict=True):
            f.store(value, place)
        return []

    f.loop(0, n, 1, [], number)
    f.loop(0, n, 1, [], exchange)


def triangular_solve(c: Calls, a: Value, b: Value, y: Value) -> None:
    """trsm in the place of the result."""
    c.copy(b, y, c.work.n * c.work.columns)
    c.substitute(a, y, *(flag in c.work.flags for flag in ("lower", "transposed", "unit")))


def solve(c: Calls, factors: Value, b: Value, y: Value) -> None:
    """trsm with both factors, and rows put in order ahead of them, or after."""
    f, n, m = c.f, c.work.n, c.work.columns
    order = f.element(factors, c.ty, n * n)
    transposed = "transposed" in c.work.flags
    if transposed:
        x = c.workspace
        c.copy(b, x, n * m)
        c.substitute(factors, x, lower=False, transposed=True, unit=False)
        c.substitute(factors, x, lower=True, transposed=True, unit=True)

    def row(i: Value, _: list[Value]) -> list[Value]:
        number = f.convert("fptosi", f.load(f.element(order, c.ty, i), c.ty), I64)
        # In case of factors that are none: no row is outside.
        number = f.intrinsic("umin", I64, (number, int_literal(n - 1)))
        ends = (c.workspace, i, y, number) if transposed else (b, number, y, i)
        source, target = (f.element(place, c.ty, f.mul(at, m)) for place, at in (ends[:2], ends[2:]))
        c.copy(source, target, m)
        return []

    f.loop(0, n, 1, [], row)
    if not transposed:
        c.substitute(factors, y, lower=True, transposed=False, unit=True)
        c.substitute(factors, y, lower=False, transposed=False, unit=False)


def eigh(c: Calls, x: Value, y: Value) -> None:
    """syevd; their columns are rows of what it leaves."""
    f, n = c.f, c.work.n
    room = c.rooms(n * n, lapack_sizes(c.work)[0])
    c.turn(x, room[0])
    vectors = c.work.op == "eigh"
    sizes = [c.integer(size) for size in lapack_sizes(c.work)]
    job = c.letter("V" if vectors else "N")
    c.call("syevd", job, c.letter("L"), c.n, room[0], c.n, y, room[1], sizes[0], room[2], sizes[1], c.info)
    if vectors:
        c.turn(room[0], f.element(y, c.ty, n))
    c.spoil(y, c.work.sizes[-1])


def svd(c: Calls, x: Value, y: Value) -> None:
    """gesdd; what it calls V^T is our V."""
    f, m, n, work = c.f, c.work.n, c.work.columns, c.work
    vectors, full = work.op != "svdvals", work.op == "svd_full"
    (_, width), (k,), _ = svd_shapes(m, n, full)
    room = c.rooms(m * n, m * width, lapack_sizes(work)[0])
    c.turn(x, room[0], m, n)
    values = f.element(y, c.ty, m * width) if vectors else y
    right = f.element(y, c.ty, m * width + k) if vectors else y
    rows = c.integer(n if full else k)
    sizes = c.integer(lapack_sizes(work)[0])
    job = c.letter("N" if not vectors else "A" if full else "S")
    c.call(
        "gesdd", job, c.n, c.columns, room[0], c.n, values, room[1], c.n, right, rows, room[2], sizes, room[3], c.info
    )
    if vectors:
        c.turn(room[1], y, width, m)
    c.spoil(y, work.sizes[-1])


def qr(c: Calls, x: Value, y: Value) -> None:
    """geqrf, then orgqr of what it leaves below the diagonal."""
    f, m, n, work = c.f, c.work.n, c.work.columns, c.work
    (_, width), _ = qr_shapes(m, n, work.op == "qr_full")
    k = min(m, n)
    room = c.rooms(m * max(n, width), k, lapack_sizes(work)[0])
    size = c.integer(lapack_sizes(work)[0])
    c.turn(x, room[0], m, n)
    c.call("geqrf", c.n, c.columns, room[0], c.n, room[1], room[2], size, c.info)
    r = f.element(y, c.ty, m * width)

    def upper(i: Value, j: Value) -> None:
        above = f.load(c.at(room[0], j, i, m), c.ty)
        f.store(f.select(f.compare("sgt", i, j), literal(c.ty, 0.0), above), c.at(r, i, j, n))

    c.each(upper, k, n)
    c.each(lambda i, j: f.store(literal(c.ty, 0.0), c.at(r, f.add(i, k), j, n)), width - k, n)
    c.call("orgqr", c.n, c.integer(width), c.integer(k), room[0], c.n, room[1], room[2], size, c.info)
    c.turn(room[0], y, width, m)


CALLS: dict[str, Callable[..., None]] = {
    "cholesky": cholesky,
    "cholesky_adjoint": cholesky_adjoint,
    "lu": lu,
    "triangular_solve": triangular_solve,
    "solve": solve,
    "eigh": eigh,
    "eigvalsh": eigh,
    "svd": svd,
    "svd_full": svd,
    "svdvals": svd,
    "qr": qr,
    "qr_full": qr,
}
"""What each op does with one matrix."""


def workspace_bytes(work: Factored) -> int:
    """Memory that the calls for one matrix need beside its parameters."""
    if work.op == "lu":
        return work.n * work.n * work.itemsize + 4 * work.n
    if work.op == "cholesky_adjoint":
        return ADJOINT_ROWS * ADJOINT_ROWS * work.itemsize
    if work.op == "solve":
        return work.n * work.columns * work.itemsize if "transposed" in work.flags else 0
    if work.op not in ("cholesky", "triangular_solve"):
        return work.itemsize * sum(_up(size) for size in _rooms(work)) + 4 * lapack_sizes(work)[1]
    return 0


def _rooms(work: Factored) -> tuple[int, ...]:
    """Elements of what the calls keep: a matrix, others, then what LAPACK works in."""
    m, n = work.n, work.columns
    if work.op in ("eigh", "eigvalsh"):
        return m * m, lapack_sizes(work)[0]
    if "svd" in work.op:
        return m * n, m * svd_shapes(m, n, work.op == "svd_full")[0][1], lapack_sizes(work)[0]
    width = qr_shapes(m, n, work.op == "qr_full")[0][1]
    return m * max(n, width), min(m, n), lapack_sizes(work)[0]


def _up(size: int) -> int:
    """Whole lines of the cache."""
    return -(-size // 16) * 16


def lapack_sizes(work: Factored) -> tuple[int, int]:
    """Numbers and integers that LAPACK works in, as its documentation has them, with room for its blocks."""
    m, n = work.n, work.columns
    if work.op in ("eigh", "eigvalsh"):
        return 1 + 6 * m + 2 * m * m + 64 * m, 3 + 5 * m
    if "svd" in work.op:
        small, large = min(m, n), max(m, n)
        return 4 * small * small + 9 * small + large + 64 * (m + n), 8 * small
    return 64 * max(m, n, 1), 0


def emit_calls(f: Function, work: Factored, places: Sequence[Value], workspace: Value, low: Value, high: Value) -> None:
    """The matrices of a range, one by one."""
    calls = Calls(f, work, workspace)
    f.module.declare("llvm.memcpy.p0.p0.i64", VOID, [PTR, PTR, I64, I1])
    f.module.declare("llvm.memset.p0.i64", VOID, [PTR, I8, I64, I1])
    threads = f.call("adjit_get_blas_threads", I32, [])
    f.call("adjit_set_blas_threads", VOID, [literal(I32, 1)])

    def one(number: Value, _: list[Value]) -> list[Value]:
        mine = [f.element(place, calls.ty, f.mul(number, size)) for place, size in zip(places, work.sizes, strict=True)]
        CALLS[work.op](calls, *mine)
        return []

    f.loop(low, high, 1, [], one)
    f.call("adjit_set_blas_threads", VOID, [threads])
