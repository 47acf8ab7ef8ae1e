"""The work of a kernel in the text of a plan: what its first line says, and the body that follows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from adjit.ir.parse import Reader
from adjit.ir.tokens import Token
from adjit.ir.types import MOST_DIMENSIONS
from adjit.schedule.buffer import Param
from adjit.schedule.factors import FLAGS, SIZES, Factored
from adjit.schedule.instructions import Body, Reduce, side_by_side
from adjit.schedule.parse_body import BodyReader, Indices
from adjit.schedule.sorts import Sorted
from adjit.schedule.work import CheckRange, Loop, Product, Running, Scatter, Single


class Head:
    """The first line of a kernel, and what it says of its work.

    `params` are the places that it names, `made` gives the work of a body, `bare` is the work where none follows;
    `place()` reads a place, `checks` is how many checks there are."""

    def __init__(self, reader: Reader, place: Callable[[], Param], checks: int) -> None:
        self.reader = reader
        self.place = place
        self.checks = checks
        self.params: list[Param] = []
        self.made: Callable[[Body | None], Single]
        self._domain: tuple[int, ...] = ()
        self._reduced: tuple[int, ...] = ()
        self._reductions: tuple[str, ...] = ()
        self._element: np.dtype | None = None
        self.bare: Single | None = None
        self._positions: list[tuple[int, Token]] = []
        self._stored: tuple[int, Token] | None = None

    def read(self) -> Head:
        """`loop over (32,64) reduced (1)`."""
        self._word = word = self.reader.expect("word")
        if word.text not in KINDS:
            self.reader.fail(f"there is no kind of kernel {word.text!r}", word)
        KINDS[word.text](self)
        return self

    def finish(self, listed: Sequence[Param] | None) -> tuple[Single, list[Param]]:
        """The work whose body stands here, and all its places, which are `listed` where the line has them."""
        reader, bare = self.reader, self.bare
        if bare is not None:
            if not bare.title or not reader.accept("word", bare.title):
                if listed is not None and len(listed) > len(self.params):
                    without = f" without an {bare.title}" if bare.title else ""
                    reader.fail(f"a {self._word.text}{without} has {len(self.params)} places", self._word)
                return bare, self.params
            at, wanted = reader.token, self._domain
            self.over()
            if self._domain != wanted:
                reader.fail(f"the epilogue of this product is over ({','.join(map(str, wanted))})", at)
        first = len(self.params)
        body = BodyReader(reader, self.place, len(self._domain), first, listed, self._reductions, self._element)
        body.read()
        for number, token in self._positions:
            body.dtype_of(number, token, "iu" if self._stored else "biu")
        if self._stored is not None and body.dtype_of(*self._stored) != self.params[0][0].dtype:
            reader.fail("what is scattered is not of the dtype of the buffer", self._stored[1])
        sums = sum(isinstance(instruction, Reduce) for instruction in body.code)
        if self._word.text == "running" and (sums, len(self._reduced)) != (1, 1):
            reader.fail("a running result has one value, along one dimension", self._word)
        dtypes = tuple(buffer.dtype for buffer, _ in body.params)
        beside = side_by_side(body.code, self._domain, body.params, first)
        work = self.made(Body(self._domain, self._reduced, dtypes, tuple(body.code), beside))
        return work, [*self.params, *body.params]

    def _numbers(self) -> tuple[int, ...]:
        self.reader.expect("sign", "(")
        return tuple(self.reader.sequence(")", self.reader.natural))

    def over(self) -> None:
        """`over (32,64) reduced (1)`."""
        reader = self.reader
        reader.expect("word", "over")
        start = reader.token
        self._domain, self._reduced = self._numbers(), ()
        if len(self._domain) > MOST_DIMENSIONS:
            reader.fail(f"{len(self._domain)} dimensions, where there are at most {MOST_DIMENSIONS}", start)
        if reader.accept("word", "reduced"):
            at = reader.token
            self._reduced = self._numbers()
            if [*self._reduced] != sorted({*self._reduced} & {*range(len(self._domain))}):
                reader.fail(f"these are not dimensions of {len(self._domain)}, in order", at)

    def read_loop(self) -> None:
        """`loop over (8)`."""
        self.over()
        self._reductions = ("reduction", "argreduction")
        self.made = lambda body: Loop(_known(body))

    def read_running(self) -> None:
        """`running over (8) reduced (0) reverse`."""
        self.over()
        reverse = self.reader.accept("word", "reverse") is not None
        self._reductions = ("running",)
        self.made = lambda body: Running(_known(body), reverse)

    def read_scatter(self) -> None:
        """`scatter over (8) add v1 -> %t9[8*d0 + v0*1] v0 in [0,8)`."""
        self.over()
        reader, indices = self.reader, Indices(self.reader, len(self._domain))
        add = reader.accept("word", "add") is not None
        if not add:
            reader.expect("word", "set")
        self._stored = value, _ = indices.number()
        reader.expect("sign", "->")
        self.params = [self.place()]
        start = reader.token
        where = indices.element(has_position=True)
        at, terms, stride = where.position, where.terms, where.stride
        size = indices.held(at)
        self._positions = [(at, start)]
        self.made = lambda body: Scatter(_known(body), at, value, terms, stride, size, add)

    def read_check(self) -> None:
        """`checkrange over (16) v0 in [-10,10) check 0`."""
        self.over()
        reader, indices = self.reader, Indices(self.reader, len(self._domain))
        at, token = indices.number()
        reader.expect("word", "in")
        reader.expect("sign", "[")
        low = reader.integer()
        reader.expect("sign", ",")
        high = reader.integer()
        reader.expect("sign", ")")
        reader.expect("word", "check")
        number_token = reader.token
        number = reader.natural()
        if number >= self.checks:
            reader.fail(f"there are {self.checks} checks", number_token)
        self._positions = [(at, token)]
        self.made = lambda body: CheckRange(_known(body), at, low, high, number)

    def read_sort(self) -> None:
        """`sort f64 (8,5,1) %x -> %y`, and `argsort` likewise."""
        reader, positions = self.reader, self._word.text == "argsort"
        dtype = reader.dtype()
        at = reader.token
        sizes = self._numbers()
        if len(sizes) != 3:
            reader.fail("an array is sorted along the middle one of three axes", at)
        source = self.place()
        reader.expect("sign", "->")
        self.params = [source, self.place()]
        self.bare = Sorted(dtype, *sizes, positions)

    def read_factor(self) -> None:
        """`factor solve f64 (8,3,1) transposed on %f %b -> %y`."""
        reader = self.reader
        at = reader.token
        op = reader.expect("word").text
        if op not in SIZES:
            reader.fail(f"nothing is called {op}", at)
        dtype = reader.dtype()
        at = reader.token
        sizes = self._numbers()
        if len(sizes) != 3:
            reader.fail("matrices have a count, rows, and columns beside them", at)
        count, n, columns = sizes
        flags = []
        while (word := reader.expect("word")).text != "on":
            if word.text not in FLAGS or word.text in flags:
                reader.fail(f"{word.text} says nothing of {op}", word)
            flags.append(word.text)
        params = [self.place() for _ in SIZES[op](n, columns)[1:]]
        reader.expect("sign", "->")
        self.params = [*params, self.place()]
        self.bare = Factored(op, dtype, count, n, columns, tuple(flags))

    def read_product(self) -> None:
        """`product m=16 n=32 k=64  A=%x (64,1)  B=%w (32,1)  C=%t4 (32,1)`."""
        reader = self.reader
        batch = []
        while reader.accept("word", "batch"):
            reader.expect("sign", "=")
            count, (a_step, b_step, c_step) = reader.natural(), self._strides(3)
            batch.append((count, a_step, b_step, c_step))
        m, n, k = (self._extent(name) for name in "mnk")
        runs = []
        while reader.accept("word", "runs"):
            reader.expect("sign", "=")
            count, (a_step, b_step) = reader.natural(), self._strides(2)
            runs.append((count, a_step, b_step))
        (a, b, c), strides = zip(*(self._matrix(name) for name in "ABC"), strict=True)
        dtype = a[0].dtype
        for (buffer, _), name in ((b, "B"), (c, "C")):
            if buffer.dtype != dtype:
                reader.fail(f"A and {name} are of two dtypes", self._word)
        if strides[2][1] != 1:
            reader.fail("the elements of a row of C are adjacent", self._word)
        scratch = reader.accept("word", "scratch") is not None
        self.params = [a, b, c]
        self._reductions = ("reduction", "argreduction")
        self._domain = (math.prod(entry[0] for entry in batch), m, n)
        found = Product(dtype, m, n, k, strides[0], strides[1], strides[2][0], tuple(batch), scratch, None, tuple(runs))
        self.bare, self._element = found, dtype
        self.made = lambda body: replace(found, epilogue=body)

    def _extent(self, name: str) -> int:
        self.reader.expect("word", name)
        self.reader.expect("sign", "=")
        return self.reader.natural()

    def _matrix(self, name: str) -> tuple[Param, tuple[int, ...]]:
        self.reader.expect("word", name)
        self.reader.expect("sign", "=")
        return self.place(), self._strides(2)

    def _strides(self, count: int) -> tuple[int, ...]:
        at = self.reader.expect("sign", "(")
        found = tuple(self.reader.sequence(")", self.reader.integer))
        if len(found) != count:
            self.reader.fail(f"expected {count} strides", at)
        return found


def _known(body: Body | None) -> Body:
    assert body is not None
    return body


KINDS: dict[str, Callable[[Head], None]] = {
    "loop": Head.read_loop,
    "running": Head.read_running,
    "scatter": Head.read_scatter,
    "checkrange": Head.read_check,
    "product": Head.read_product,
    "factor": Head.read_factor,
    "sort": Head.read_sort,
    "argsort": Head.read_sort,
}
"""What reads the first line of each kind of work, from after its name."""
