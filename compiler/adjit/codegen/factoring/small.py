"""Small matrices, a block of as many as a vector has lanes at a time: element (i, j) of all of them is one vector.

Loops over rows and columns are written out for matrices of few rows, so that elements stay in registers. Every lane
does the same: a pivot is chosen by comparisons, rows are exchanged by selects."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from adjit.codegen.llvm import I64, Function, Value, int_literal, literal, register_type
from adjit.schedule.factors import Factored
from adjit.tuned import UNROLLED_ROWS

Body = Callable[[Value], None]


class Block:
    """The matrices of one block: where they lie, and the working memory, (rows, columns, lanes)."""

    def __init__(self, f: Function, work: Factored, places: Sequence[Value], lanes: int) -> None:
        self.f = f
        self.work = work
        self.places = places
        self.ty = register_type(work.dtype).vector(lanes)
        self.n = work.n
        self.lanes = lanes
        self.unrolled = work.n <= UNROLLED_ROWS
        self.offsets: list[Value] = []
        self._memories = [f.alloca(self.ty, self.n * self.n) for _ in range(2)]
        self._vector = f.alloca(self.ty, self.n)

    def begin(self, first: Value, last: Value) -> None:
        """Take the matrices from number `first` on; the last one stands in all lanes that are left."""
        f, ty = self.f, I64.vector(self.lanes)
        numbers = f.binary("add", f.splat(first, self.lanes), f.iota(ty))
        numbers = f.intrinsic("smin", ty, (numbers, f.splat(last, self.lanes)))
        self.offsets = [f.binary("mul", numbers, literal(ty, size)) for size in self.work.sizes]

    # -- loops --------------------------------------------------------------------------------------------------------

    def span(self, low: Value | int, high: Value | int, body: Body) -> None:
        """`body` for each number from low up to high."""
        low, high = _index(low), _index(high)
        if self.unrolled:
            for i in range(int(low.ref), int(high.ref)):
                body(int_literal(i))
            return

        def turn(i: Value, _: list[Value]) -> list[Value]:
            body(i)
            return []

        self.f.loop(low, high, 1, [], turn)

    def down(self, high: Value | int, body: Body) -> None:
        """`body` for each number from high - 1 down to 0."""
        high = _index(high)
        self.span(0, high, lambda i: body(self.f.sub(self.f.sub(high, 1), i)))

    def fold(
        self, low: Value | int, high: Value | int, start: list[Value], body: Callable[[Value, list[Value]], list[Value]]
    ) -> list[Value]:
        """What `body` makes of the values before, for each number from low up to high."""
        low, high = _index(low), _index(high)
        if not self.unrolled:
            return self.f.loop(low, high, 1, start, body)
        for i in range(int(low.ref), int(high.ref)):
            start = body(int_literal(i), start)
        return start

    # -- elements -----------------------------------------------------------------------------------------------------

    def at(self, row: Value, column: Value, columns: int | None = None) -> Value:
        """The number of an element of a matrix."""
        return self.f.add(self.f.mul(row, self.n if columns is None else columns), column)

    def read(self, param: int, element: Value) -> Value:
        """An element of each matrix of a parameter."""
        scalar = self.ty.scalar
        return self.f.gather(self.f.element(self.places[param], scalar, element), self.ty, self.offsets[param], None)

    def write(self, value: Value, param: int, element: Value) -> None:
        """Store an element of each matrix of a parameter."""
        place = self.f.element(self.places[param], self.ty.scalar, element)
        self.f.scatter(value, place, self.offsets[param], None)

    def _place(self, memory: Value, element: Value) -> Value:
        return self.f.element(memory, self.ty.scalar, self.f.mul(element, self.lanes))

    def get(self, row: Value, column: Value, which: int = 0) -> Value:
        """An element in working memory, of the first or the second matrix there."""
        return self.f.load(self._place(self._memories[which], self.at(row, column)), self.ty)

    def put(self, value: Value, row: Value, column: Value, which: int = 0) -> None:
        """Change an element in working memory."""
        self.f.store(value, self._place(self._memories[which], self.at(row, column)))

    def get_one(self, i: Value) -> Value:
        """An element of the vector in working memory."""
        return self.f.load(self._place(self._vector, i), self.ty)

    def put_one(self, value: Value, i: Value) -> None:
        """Change an element of the vector in working memory."""
        self.f.store(value, self._place(self._vector, i))

    def take(self, param: int, lower: bool | None = None, which: int = 0) -> None:
        """Bring the matrices of a parameter into working memory: all of each, or one triangle."""

        def row(i: Value) -> None:
            low, high = (0, self.n) if lower is None else (0, self.f.add(i, 1)) if lower else (i, self.n)
            self.span(low, high, lambda j: self.put(self.read(param, self.at(i, j)), i, j, which))

        self.span(0, self.n, row)

    # -- arithmetic ---------------------------------------------------------------------------------------------------

    def number(self, value: float) -> Value:
        """The same number in each lane."""
        return literal(self.ty, value)

    def minus(self, total: Value, x: Value, y: Value) -> Value:
        """total - x * y."""
        return self.f.fma(self.f.unary("fneg", x), y, total)


def _index(i: Value | int) -> Value:
    return i if isinstance(i, Value) else int_literal(i)


def cholesky(b: Block) -> None:
    """Row by row of L; what fails is NaN as a whole."""
    f, n = b.f, b.n
    b.take(0, lower=True)
    bad = literal(b.f.compare("uno", b.number(0.0), b.number(0.0)).ty, False)

    def column(j: Value, found: list[Value]) -> list[Value]:
        rest = b.fold(0, j, [b.get(j, j)], lambda k, s: [b.minus(s[0], b.get(j, k), b.get(j, k))])[0]
        failed = f.compare("ule", rest, b.number(0.0))
        root = f.intrinsic("sqrt", b.ty, (rest,))
        b.put(root, j, j)

        def row(i: Value) -> None:
            rest = b.fold(0, j, [b.get(i, j)], lambda k, s: [b.minus(s[0], b.get(i, k), b.get(j, k))])[0]
            b.put(f.binary("fdiv", rest, root), i, j)

        b.span(f.add(j, 1), n, row)
        return [f.binary("or", found[0], failed)]

    (failed,) = b.fold(0, n, [bad], column)
    nan = b.number(float("nan"))

    def give(i: Value) -> None:
        b.span(0, f.add(i, 1), lambda j: b.write(f.select(failed, nan, b.get(i, j)), 1, b.at(i, j)))
        b.span(f.add(i, 1), n, lambda j: b.write(f.select(failed, nan, b.number(0.0)), 1, b.at(i, j)))

    b.span(0, n, give)


def cholesky_adjoint(b: Block) -> None:
    """Backwards through the columns of L, each with what it did to those ahead of it."""
    f, n = b.f, b.n
    b.take(0, lower=True)
    b.take(1, lower=True, which=1)

    def column(j: Value) -> None:
        after = f.add(j, 1)
        pivot = b.get(j, j)
        b.span(after, n, lambda i: b.put(f.binary("fdiv", b.get(i, j, 1), pivot), i, j, 1))
        start = [b.get(j, j, 1)]
        (rest,) = b.fold(after, n, start, lambda i, s: [b.minus(s[0], b.get(i, j, 1), b.get(i, j))])
        by_pivot = f.binary("fdiv", rest, pivot)
        b.put(f.binary("fmul", by_pivot, b.number(0.5)), j, j, 1)

        def ahead(c: Value) -> None:
            own = b.get(j, c)
            b.span(after, n, lambda i: b.put(b.minus(b.get(i, c, 1), b.get(i, j, 1), own), i, c, 1))
            start = [b.minus(b.get(j, c, 1), by_pivot, own)]
            (rest,) = b.fold(after, n, start, lambda i, s: [b.minus(s[0], b.get(i, j, 1), b.get(i, c))])
            b.put(rest, j, c, 1)

        b.span(0, j, ahead)

    b.down(n, column)

    def give(i: Value) -> None:
        b.span(0, f.add(i, 1), lambda j: b.write(b.get(i, j, 1), 2, b.at(i, j)))
        b.span(f.add(i, 1), n, lambda j: b.write(b.number(0.0), 2, b.at(i, j)))

    b.span(0, n, give)


def lu(b: Block) -> None:
    """Gauss's elimination with partial pivoting, column by column; the first of the largest is the pivot."""
    f, n = b.f, b.n
    b.take(0)
    b.span(0, n, lambda i: b.put_one(f.splat(f.convert("sitofp", i, b.ty.scalar), b.lanes), i))

    def largest(k: Value) -> Value:
        def beside(i: Value, found: list[Value]) -> list[Value]:
            size = f.intrinsic("fabs", b.ty, (b.get(i, k),))
            larger = f.compare("ogt", size, found[0])
            number = f.splat(f.convert("sitofp", i, b.ty.scalar), b.lanes)
            return [f.select(larger, size, found[0]), f.select(larger, number, found[1])]

        start = [f.intrinsic("fabs", b.ty, (b.get(k, k),)), f.splat(f.convert("sitofp", k, b.ty.scalar), b.lanes)]
        return b.fold(f.add(k, 1), n, start, beside)[1]

    def exchange(k: Value, pivot: Value, get: Callable[[Value], Value], put: Callable[[Value, Value], None]) -> None:
        """Row k with that of the pivot, at one column."""
        own = get(k)

        def beside(i: Value, found: list[Value]) -> list[Value]:
            is_pivot = f.compare("oeq", pivot, f.splat(f.convert("sitofp", i, b.ty.scalar), b.lanes))
            other = get(i)
            put(f.select(is_pivot, own, other), i)
            return [f.select(is_pivot, other, found[0])]

        put(b.fold(f.add(k, 1), n, [own], beside)[0], k)

    def column(k: Value) -> None:
        pivot = largest(k)
        b.span(0, n, lambda j: exchange(k, pivot, lambda i: b.get(i, j), lambda x, i: b.put(x, i, j)))
        exchange(k, pivot, b.get_one, b.put_one)
        divisor = b.get(k, k)
        # All below a pivot of 0 are 0.
        divisor = f.select(f.compare("oeq", divisor, b.number(0.0)), b.number(1.0), divisor)

        def row(i: Value) -> None:
            factor = f.binary("fdiv", b.get(i, k), divisor)
            b.put(factor, i, k)
            b.span(f.add(k, 1), n, lambda j: b.put(b.minus(b.get(i, j), factor, b.get(k, j)), i, j))

        b.span(f.add(k, 1), n, row)

    b.span(0, n, column)
    b.span(0, n, lambda i: b.span(0, n, lambda j: b.write(b.get(i, j), 1, b.at(i, j))))
    b.span(0, n, lambda i: b.write(b.get_one(i), 1, f.add(i, n * n)))


def _substitute(b: Block, lower: bool, transposed: bool, unit: bool) -> None:
    """Solve for the vector in working memory, by a triangle of the matrix there."""
    f, n = b.f, b.n
    forward = lower != transposed

    def row(i: Value) -> None:
        low, high = (int_literal(0), i) if forward else (f.add(i, 1), int_literal(n))

        def known(k: Value, found: list[Value]) -> list[Value]:
            factor = b.get(k, i) if transposed else b.get(i, k)
            return [b.minus(found[0], factor, b.get_one(k))]

        (rest,) = b.fold(low, high, [b.get_one(i)], known)
        b.put_one(rest if unit else f.binary("fdiv", rest, b.get(i, i)), i)

    if forward:
        b.span(0, n, row)
    else:
        b.down(n, row)


def triangular_solve(b: Block) -> None:
    """One right-hand side after the other."""
    flags, m = b.work.flags, b.work.columns
    lower, transposed, unit = (name in flags for name in ("lower", "transposed", "unit"))
    b.take(0, lower)

    def column(c: Value) -> None:
        b.span(0, b.n, lambda i: b.put_one(b.read(1, b.at(i, c, m)), i))
        _substitute(b, lower, transposed, unit)
        b.span(0, b.n, lambda i: b.write(b.get_one(i), 2, b.at(i, c, m)))

    _columns(b, m, column)


def solve(b: Block) -> None:
    """One right-hand side after the other, its rows in the order of the factors."""
    f, m = b.f, b.work.columns
    transposed = "transposed" in b.work.flags
    b.take(0)
    wide = I64.vector(b.lanes)

    def places(i: Value) -> Value:
        """By how many elements the row that row i of L U was lies behind the first one."""
        number = f.convert("fptosi", b.read(0, f.add(i, b.n * b.n)), wide)
        # In case of factors that are none: no place is outside.
        number = f.intrinsic("umin", wide, (number, literal(wide, b.n - 1)))
        return f.binary("mul", number, literal(wide, m))

    def column(c: Value) -> None:
        def moved(i: Value, param: int) -> tuple[Value, Value]:
            place = f.element(b.places[param], b.ty.scalar, c)
            return place, f.binary("add", b.offsets[param], places(i))

        def read(i: Value) -> None:
            if transposed:
                b.put_one(b.read(1, b.at(i, c, m)), i)
            else:
                place, offsets = moved(i, 1)
                b.put_one(f.gather(place, b.ty, offsets, None), i)

        def write(i: Value) -> None:
            if transposed:
                place, offsets = moved(i, 2)
                f.scatter(b.get_one(i), place, offsets, None)
            else:
                b.write(b.get_one(i), 2, b.at(i, c, m))

        b.span(0, b.n, read)
        for lower in (False, True) if transposed else (True, False):
            _substitute(b, lower, transposed, unit=lower)
        b.span(0, b.n, write)

    _columns(b, m, column)


def _columns(b: Block, count: int, column: Body) -> None:
    """A loop over right-hand sides, however many rows there are."""

    def one(c: Value, _: list[Value]) -> list[Value]:
        column(c)
        return []

    b.f.loop(0, count, 1, [], one)


ALGORITHMS: dict[str, Callable[[Block], None]] = {
    "cholesky": cholesky,
    "cholesky_adjoint": cholesky_adjoint,
    "lu": lu,
    "triangular_solve": triangular_solve,
    "solve": solve,
}
"""What each op does with a block."""


def emit_small(f: Function, work: Factored, places: Sequence[Value], low: Value, high: Value, lanes: int) -> None:
    """The matrices of a range, block by block."""
    block = Block(f, work, places, lanes)

    def turn(first: Value, _: list[Value]) -> list[Value]:
        block.begin(first, f.sub(high, 1))
        ALGORITHMS[work.op](block)
        return []

    f.loop(low, high, lanes, [], turn)
