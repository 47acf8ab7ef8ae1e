"""Functions of one vector drawn by chance, as source text: arithmetic, products, reductions, indexing, code in place,
and loops, branches, batches, checkpoints, rules of their own, equations, formulas, derivatives inside of each other.

What is carried is bounded, and what is divided by is positive, so that values and derivatives stay moderate."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Shape = tuple[int, ...]

HEAD = """import numpy as np
import sympy
import adjit

S, T = sympy.symbols("s t")


def ramp(*shape):
    return np.linspace(0.5, 1.5, int(np.prod(shape))).reshape(shape)


def ruled(f, mode):
    def forward(primals, tangents):
        return adjit.jvp(f, primals, tangents)

    def back(*primals):
        return adjit.vjp(f, *primals)

    rules = {"jvp": {"jvp": forward}, "vjp": {"vjp": back}, "both": {"jvp": forward, "vjp": back}}
    return adjit.custom_rule(f, **rules[mode])


"""

UNARY = ["np.tanh({})", "np.sin({})", "np.cos({})", "np.arctan({})", "np.exp(-({}) ** 2)", "np.sqrt(1 + ({}) ** 2)",
         "np.log1p(({}) ** 2)", "1 / (1 + ({}) ** 2)", "-({})", "0.5 * ({})", "({}) ** 2", "np.logaddexp({}, 0.3)",
         "np.tanh(np.exp(np.sin({})))"]  # fmt: skip
BINARY = ["{} + {}", "{} - {}", "{} * {}", "{} / (1.5 + ({}) ** 2)", "np.arctan2({}, 2.5 + ({}) ** 2)",
          "np.maximum({}, {})", "np.hypot({}, 1 + ({}) ** 2)"]  # fmt: skip
FORMULAS = ["sympy.sin(S * T) + S", "S / (2 + T**2)", "sympy.Piecewise((S**2, S < T), (T * S, True))",
            "sympy.exp(-(S**2)) * T", "sympy.Max(S, T) + sympy.tanh(S + T)"]  # fmt: skip


@dataclass(frozen=True)
class Name:
    """A variable, and the shape of the floats in it."""

    text: str
    shape: Shape


@dataclass
class Block:
    """The body of a function as it is drawn: what can be read, at which depth of functions, and its lines."""

    scope: list[Name]
    depth: int
    lines: list[str] = field(default_factory=list)


class Drawn:
    """One program; `seed` says which. `text` is its source, whose last function is `f`."""

    def __init__(self, seed: int, most: int = 5, depth: int = 3) -> None:
        self.random = random.Random(seed)
        self.size = self.random.choice((1, 2, 3, 3, 4, 5, 5, 17))
        self.count = 0
        self.depth = depth
        self.block = Block([Name("x", (self.size,))], 0)
        for _ in range(self.random.randint(2, most)):
            self.statement()
        results = [*self.block.scope[1:]][-3:]
        chosen = self.random.choice([(), (), (self.size,), (2, 3)])
        total = " + ".join(self._fitted(name, chosen) for name in results)
        body = [*self.block.lines, f"return {total}"]
        self.text = HEAD + f"SIZE = {self.size}\n\n\n" + "def f(x):\n" + "".join(f"    {line}\n" for line in body)

    # -- names and expressions ----------------------------------------------------------------------------------------

    def fresh(self, letter: str = "v") -> str:
        """A name that is not used yet."""
        self.count += 1
        return f"{letter}{self.count}"

    def line(self, text: str) -> None:
        self.block.lines.append(text)

    def bind(self, text: str, shape: Shape) -> Name:
        """A statement that gives a value a name."""
        name = Name(self.fresh(), shape)
        self.line(f"{name.text} = {text}")
        self.block.scope.append(name)
        return name

    def pick(self, holds: Callable[[Shape], bool] = lambda shape: True) -> Name | None:
        """A name that can be read; those bound last are likelier."""
        fitting = [name for name in self.block.scope if holds(name.shape)]
        if not fitting:
            return None
        return fitting[max(self.random.randrange(len(fitting)), self.random.randrange(len(fitting)))]

    def array(self) -> Name:
        """A name of an array with dimensions, of few elements."""
        found = self.pick(lambda shape: len(shape) > 0)
        return self.bind(f"{self.scalar()} * ramp(3)", (3,)) if found is None else found

    def shape(self) -> Shape:
        """One that there is, or another one."""
        name = self.pick()
        return name.shape if name is not None and self.random.random() < 0.7 else self.random.choice(((), (3,), (2, 3)))

    def _fitted(self, name: Name, shape: Shape) -> str:
        if name.shape == shape:
            return name.text
        if not shape:
            how = self.random.choice(
                ["np.sum({0})", "np.mean({0})", "{0}[" + ", ".join("-1" for _ in name.shape) + "]"]
            )
            return how.format(name.text)
        whole = name.text if not name.shape else f"np.mean({name.text})"
        return f"{whole} * ramp({', '.join(map(str, shape))})"

    def leaf(self, shape: Shape) -> str:
        """A value of this shape that is there, or is made of one."""
        name = self.pick(lambda s: s == shape) if self.random.random() < 0.8 else None
        name = name or self.pick()
        assert name is not None
        return self._fitted(name, shape)

    def scalar(self) -> str:
        return self.leaf(())

    def expression(self, shape: Shape, depth: int = 2) -> str:
        """An expression without names of its own."""
        kind = self.random.random()
        if depth == 0 or kind < 0.2:
            return self.leaf(shape)
        if kind < 0.5:
            return self.random.choice(UNARY).format(self.expression(shape, depth - 1))
        if kind < 0.6:
            a, b, c = (self.leaf(shape) for _ in range(3))
            return f"np.where({a} > {b}, {self.expression(shape, depth - 1)}, {c})"
        other = shape if self.random.random() < 0.7 else ()
        sides = [f"({self.expression(shape, depth - 1)})", f"({self.expression(other, depth - 1)})"]
        return "(" + self.random.choice(BINARY).format(*sides) + ")"

    def bounded(self, shape: Shape) -> str:
        """An expression between -2 and 2."""
        return f"{self.random.choice(['np.tanh', 'np.sin', 'np.arctan'])}({self.expression(shape)})"

    # -- statements ---------------------------------------------------------------------------------------------------

    def statement(self) -> None:
        """One statement or several, after which there is one more name."""
        simple = [self.elementwise, self.elementwise, self.product, self.reduction, self.index, self.write, self.move]
        nested = [self.scan, self.scan, self.fori, self.unrolled, self.while_, self.cond, self.switch, self.map,
                  self.checkpoint, self.rule, self.vmap, self.vmap, self.jit, self.controlled, self.root,
                  self.fixed_point, self.derivative, self.derivative, self.formula]  # fmt: skip
        inner = self.block.depth < self.depth and self.random.random() < (0.75, 0.45, 0.25)[min(self.block.depth, 2)]
        self.random.choice(nested if inner else simple)()

    def elementwise(self) -> None:
        shape = self.shape()
        self.bind(self.expression(shape, 3), shape)

    def product(self) -> None:
        a = self.array()
        n = a.shape[-1]
        kind = self.random.randrange(4)
        if kind == 0 and len(a.shape) == 1:
            self.bind(f"np.outer({a.text}, np.sin({a.text}))", (n, n))
        elif kind == 1:
            self.bind(f"np.tanh({a.text} @ ramp({n}, 2))", (*a.shape[:-1], 2))
        elif kind == 2:
            self.bind(f"np.tanh({a.text} @ ({self.leaf((n,))}))", a.shape[:-1])
        else:
            self.bind(f"{a.text} @ np.sin({self.expression((n, 3), 1)})", (*a.shape[:-1], 3))

    def reduction(self) -> None:
        a = self.array()
        axis = self.random.randrange(len(a.shape))
        left = a.shape[:axis] + a.shape[axis + 1 :]
        how = self.random.choice(["np.sum({}", "np.mean({}", "np.max({}", "np.var({}", "np.prod(np.tanh({}) + 0.2",
                                  "np.cumsum(np.sin({})"])  # fmt: skip
        self.bind(f"{how.format(a.text)}, axis={axis})", a.shape if "cumsum" in how else left)

    def index(self) -> None:
        a = self.array()
        n, rest = a.shape[0], a.shape[1:]
        kind = self.random.randrange(5)
        if kind == 0:
            self.bind(f"{a.text}[np.argmax(np.abs({a.text}).reshape({n}, -1)[:, 0])]", rest)
        elif kind == 1:
            places = [self.random.randrange(-n, n) for _ in range(self.random.randint(1, 4))]
            self.bind(f"{a.text}[{places}]", (len(places), *rest))
        elif kind == 2 and n > 1:
            self.bind(f"{a.text}[1:] * {a.text}[:-1]", (n - 1, *rest))
        elif kind == 3:
            self.bind(f"{a.text}[::-1]", a.shape)
        else:
            self.bind(f"{a.text}[{self.random.randrange(-n, n)}]", rest)

    def write(self) -> None:
        """Code in place, into a copy."""
        a = self.array()
        n, rest = a.shape[0], a.shape[1:]
        made = self.fresh()
        self.line(f"{made} = np.array({a.text})")
        at = self.random.choice([f"{self.random.randrange(n)}", f"np.argmin({a.text}.reshape({n}, -1)[:, 0])"])
        how = self.random.choice([
            f"{made}[{at}] = {self.bounded(rest)}", f"{made}[{at}] += {self.bounded(rest)}",
            f"{made} *= {self.bounded(a.shape)}", f"{made}[{n // 2}:] = {self.bounded(())}",
            f"{made}[::2] -= np.sin({made}[::2])",
            f"np.add.at({made}, [0, {n - 1}, 0], {self.bounded(())})",
        ])  # fmt: skip
        self.line(how)
        self.block.scope.append(Name(made, a.shape))

    def move(self) -> None:
        a = self.array()
        size = 1
        for extent in a.shape:
            size *= extent
        moves: list[tuple[str, Shape]] = [
            (f"{a.text}.T", a.shape[::-1]), (f"{a.text}.reshape(-1)", (size,)),
            (f"np.roll({a.text}, 1, axis=0)", a.shape),
        ]  # fmt: skip
        if size < 30:
            moves += [
                (f"np.stack([{a.text}, np.cos({a.text})])", (2, *a.shape)),
                (f"np.concatenate([{a.text}, 0.5 * {a.text}])", (2 * a.shape[0], *a.shape[1:])),
                (f"np.sin({a.text})[:, None] * ramp(2, *{a.shape[1:]})", (a.shape[0], 2, *a.shape[1:])),
            ]
        self.bind(*self.random.choice(moves))

    # -- functions ----------------------------------------------------------------------------------------------------

    @contextmanager
    def function(self, head: str, *parameters: Name) -> Iterator[None]:
        """The body of a function, which reads what is around it, too."""
        outer = self.block
        self.block = Block([*outer.scope, *parameters], outer.depth + 1)
        yield
        inner, self.block = self.block, outer
        self.line(head)
        outer.lines += [f"    {line}" for line in inner.lines]

    def some(self, most: int = 2) -> None:
        for _ in range(self.random.randint(0, most)):
            self.statement()

    def returns(self, text: str) -> None:
        self.line(f"return {text}")

    def simple_function(self, shapes: list[Shape], result: Shape | None = None) -> tuple[str, Shape]:
        """A function of arrays of these shapes; its name, and the shape of what it gives."""
        name, parameters = self.fresh("f"), [Name(self.fresh("a"), shape) for shape in shapes]
        with self.function(f"def {name}({', '.join(p.text for p in parameters)}):", *parameters):
            self.some()
            shape = self.shape() if result is None else result
            parts = [self._fitted(p, shape) for p in parameters]
            self.returns(f"{self.bounded(shape)} + {' * '.join(f'np.cos({part})' for part in parts)}")
        return name, shape

    def arguments(self, most: int = 2) -> list[Name]:
        """Some values that have names."""
        found = [self.pick() for _ in range(self.random.randint(1, most))]
        return [name for name in found if name is not None]

    # -- control flow -------------------------------------------------------------------------------------------------

    def scan(self) -> None:
        carried = [Name(self.fresh("c"), self.shape()) for _ in range(self.random.randint(1, 2))]
        starts = [self.expression(c.shape, 1) for c in carried]
        xs = self.pick(lambda shape: len(shape) > 0) if self.random.random() < 0.8 else None
        length = xs.shape[0] if xs is not None else self.random.choice((0, 1, 3, 7))
        name, element = self.fresh("f"), self.fresh("e")
        inside = [] if xs is None else [Name(element, xs.shape[1:])]
        with self.function(f"def {name}(carry, {element}):", *carried, *inside):
            self.line(f"{', '.join(c.text for c in carried)}{',' if len(carried) == 1 else ''} = carry")
            if carried[0].shape and self.random.random() < 0.3:
                self.line(f"{carried[0].text}[0] = {self.bounded(carried[0].shape[1:])}")
            self.some()
            new = ", ".join(self._next(c) for c in carried)
            y = self.shape()
            self.returns(f"({new},), {self.expression(y)}")
        options = f", length={length}" if xs is None else ""
        options += ", reverse=True" if self.random.random() < 0.3 else ""
        if self.random.random() < 0.3:
            options += f", checkpoint={self.random.choice(['1', '2', repr('sqrt'), repr('all')])}"
        last, ys = self.fresh("c"), Name(self.fresh(), (length, *y))
        given = "None" if xs is None else xs.text
        self.line(f"{last}, {ys.text} = adjit.scan({name}, ({', '.join(starts)},), {given}{options})")
        self._unpack(last, carried)
        if length and self.random.random() < 0.7:
            self.block.scope.append(ys)

    def _next(self, c: Name) -> str:
        return self.random.choice(
            [f"0.5 * {c.text} + {self.bounded(c.shape)}", self.bounded(c.shape), self.bounded(c.shape)]
        )

    def _unpack(self, last: str, carried: list[Name]) -> None:
        for i, c in enumerate(carried):
            self.bind(f"{last}[{i}]", c.shape)

    def fori(self) -> None:
        c, i, name = Name(self.fresh("c"), self.shape()), self.fresh("i"), self.fresh("f")
        start = self.expression(c.shape, 1)
        a = self.pick(lambda shape: len(shape) > 0)
        turns = a.shape[0] if a is not None else self.random.choice((0, 1, 4))
        # What is plain Python inside of a trace is no array that a traced counter can index.
        moving = [] if a is None else [Name(f"adjit.asarray({a.text})[{i}]", a.shape[1:])]
        with self.function(f"def {name}({i}, {c.text}):", c, Name(f"(0.1 * {i})", ()), *moving):
            self.some()
            if c.shape and self.random.random() < 0.4:
                self.line(f"{c.text}[{i} % {c.shape[0]}] = {self.bounded(c.shape[1:])}")
            self.returns(self._next(c))
        kind = self.random.random()
        if kind < 0.3:
            bound = f"np.minimum(np.sum({self.array().text} > 0.2), {turns})"
            most = self.random.choice([f", max_steps={turns + 1}", "", ", checkpoint=2"])
            call = f"0, {bound}, {name}, {start}{most}"
        elif kind < 0.5:
            call = f"0, {turns}, {name}, {start}, checkpoint={self.random.choice(['1', '3', repr('sqrt')])}"
        else:
            call = f"{self.random.choice(['0', '0', f'min(1, {turns})'])}, {turns}, {name}, {start}"
        self.bind(f"adjit.fori_loop({call})", c.shape)

    def unrolled(self) -> None:
        """A loop of Python's, which a pass rolls up again where it is long; each turn contracts."""
        c, i, table = Name(self.fresh("c"), self.shape()), self.fresh("i"), self.array()
        self.line(f"{c.text} = {self.expression(c.shape, 1)}")
        moving = Name(f"{table.text}[{i} % {table.shape[0]}]", table.shape[1:])
        head = f"for {i} in range({self.random.choice((2, 16, 24))}):"
        with self.function(head, c, moving, Name(f"(0.1 * {i})", ())):
            for _ in range(self.random.randint(1, 2)):
                self.line(f"{c.text} = 0.5 * {c.text} + 0.3 * {self.bounded(c.shape)}")
        self.block.scope.append(c)

    def while_(self) -> None:
        c, n, name = Name(self.fresh("c"), self.shape()), self.fresh("n"), self.fresh("f")
        start, limit = self.expression(c.shape, 1), self.random.choice((0, 1, 3, 6))
        with self.function(f"def {name}(carry):", c, Name(f"(0.1 * {n})", ())):
            self.line(f"{c.text}, {n} = carry")
            self.some()
            self.returns(f"{self._next(c)}, {n} + 1")
        test = self.random.choice([f"carry[1] < {limit}", f"(carry[1] < {limit}) & (np.sum(carry[0] ** 2) < 3.1)",
                                   f"(carry[1] < {limit}) & (np.sum(carry[0]) > {self.scalar()})"])  # fmt: skip
        last = self.fresh("c")
        most = self.random.choice([", max_steps=2", ", max_steps=7", "", ", checkpoint=3"])
        call = f"lambda carry: {test}, {name}, ({start}, 0){most}"
        self.line(f"{last} = adjit.while_loop({call})")
        self._unpack(last, [c])

    def cond(self) -> None:
        arguments = self.arguments()
        shapes = [a.shape for a in arguments]
        one, shape = self.simple_function(shapes)
        other, _ = self.simple_function(shapes, shape)
        given = ", ".join([one, other, *(a.text for a in arguments)])
        self.bind(
            f"adjit.cond({self.scalar()} > {self.random.choice(['0.1', '0.7', '-5.0', self.scalar()])}, {given})", shape
        )

    def switch(self) -> None:
        arguments = self.arguments()
        shapes = [a.shape for a in arguments]
        first, shape = self.simple_function(shapes)
        branches = [first, *(self.simple_function(shapes, shape)[0] for _ in range(self.random.randint(0, 2)))]
        index = f"np.sum({self.array().text} > 0.1) % {len(branches)}"
        given = ", ".join(a.text for a in arguments)
        self.bind(f"adjit.switch({index}, [{', '.join(branches)}], {given})", shape)

    def map(self) -> None:
        a = self.array()
        name, shape = self.simple_function([a.shape[1:]])
        self.bind(f"adjit.map({name}, {a.text})", (a.shape[0], *shape))

    def controlled(self) -> None:
        """Python's own control flow."""
        c = Name(self.fresh("c"), self.shape())
        a, i, name = self.array(), self.fresh("i"), self.fresh("f")
        start = self.expression(c.shape, 1)
        element = Name(f"{i}", a.shape[1:])
        with self.function(f"def {name}({c.text}, {a.text}):", c):
            outer = list(self.block.scope)
            self.block.scope.append(element)
            jump = self.random.choice(["break", "continue", None])
            inner = [f"{c.text} = {self._next(c)}", f"if {self.scalar()} > {self.random.choice(['0.3', '-0.4'])}:"]
            inner.append(f"    {jump}" if jump else f"    {c.text} = {self._next(c)}")
            inner.append(f"{c.text} = {self._next(c)}")
            self.block.scope = outer
            self.line(f"for {i} in {a.text}:")
            for text in inner:
                self.line(f"    {text}")
            if self.random.random() < 0.5:
                self.line(f"if {self.scalar()} > 0.5:")
                self.line(f"    return {self.bounded(c.shape)}")
                self.line("else:")
                self.line(f"    {c.text} = {c.text} * {self.bounded(())}")
            self.returns(c.text)
        self.bind(f"adjit.jit({name}, control_flow=True)({start}, {a.text})", c.shape)

    # -- transformations ----------------------------------------------------------------------------------------------

    def checkpoint(self) -> None:
        self._called("adjit.checkpoint({})")

    def rule(self) -> None:
        """A right rule, so the function's own derivative; it reads nothing from outside, which has none."""
        arguments = self.arguments()
        outer, self.block = self.block, Block([], self.block.depth)
        name, shape = self.simple_function([a.shape for a in arguments])
        outer.lines += self.block.lines
        self.block = outer
        mode = self.random.choice(["jvp", "vjp", "both"])
        self.bind(f'ruled({name}, "{mode}")({", ".join(a.text for a in arguments)})', shape)

    def jit(self) -> None:
        self._called("adjit.jit({})")

    def _called(self, how: str) -> None:
        arguments = self.arguments()
        name, shape = self.simple_function([a.shape for a in arguments])
        self.bind(f"{how.format(name)}({', '.join(a.text for a in arguments)})", shape)

    def vmap(self) -> None:
        a = self.array()
        n = a.shape[0]
        others = self.arguments(1)
        axes = ["0", *("0" if b.shape and b.shape[0] == n and self.random.random() < 0.6 else "None" for b in others)]
        inside = [a.shape[1:], *(b.shape[1:] if at == "0" else b.shape for b, at in zip(others, axes[1:], strict=True))]
        name, shape = self.simple_function(inside)
        options = f"in_axes=({', '.join(axes)},)"
        options += f", chunk={self.random.choice((1, 2, 3))}" if self.random.random() < 0.3 else ""
        last = shape and self.random.random() < 0.3
        options += ", out_axes=-1" if last else ""
        self.bind(
            f"adjit.vmap({name}, {options})({', '.join(b.text for b in (a, *others))})",
            (*shape, n) if last else (n, *shape),
        )

    def root(self) -> None:
        """Of y + 0.3 sin(y) = bounded, and of a vector whose Jacobian is near one."""
        shape, name, y = self.random.choice(((), (2,), (3,))), self.fresh("f"), self.fresh("y")
        theta = Name(self.fresh("a"), shape)
        with self.function(f"def {name}({y}, {theta.text}):", theta):
            self.some(1)
            mixed = f"0.3 * np.sin({y})" if not shape else f"0.3 * np.sin({y}[::-1])"
            self.returns(f"{y} + {mixed} - {self.bounded(shape)} - {theta.text}")
        start = "0.1" if not shape else f"np.zeros({shape[0]})"
        self.bind(f"adjit.root({name}, {start}, {self.bounded(shape)})", shape)

    def fixed_point(self) -> None:
        shape, name, y = self.random.choice(((), (2,), (3,))), self.fresh("f"), self.fresh("y")
        theta = Name(self.fresh("a"), shape)
        with self.function(f"def {name}({y}, {theta.text}):", theta):
            self.some(1)
            self.returns(f"0.3 * np.cos({y} + {theta.text}) + {self.bounded(shape)}")
        start = "0.1" if not shape else f"np.zeros({shape[0]})"
        self.bind(f"adjit.fixed_point({name}, {start}, {self.bounded(shape)})", shape)

    def formula(self) -> None:
        shape = self.shape()
        call = f"adjit.from_sympy([S, T], {self.random.choice(FORMULAS)})"
        self.bind(f"{call}({self.expression(shape, 1)}, {self.bounded(shape)})", shape)

    def derivative(self) -> None:
        """Of a function that is drawn, by its argument."""
        a = self.random.choice([self.array(), self.pick() or self.array()])
        size = 1
        for extent in a.shape:
            size *= extent
        kind = self.random.choice(["grad", "jvp", "vjp", "linearize", "elementwise_grad", "hvp", "jacfwd", "jacrev",
                                   "jacobian", "hessian"])  # fmt: skip
        if kind in ("grad", "hvp", "hessian"):
            name, shape = self.simple_function([a.shape], ())
        else:
            name, shape = self.simple_function([a.shape])
        scale = "0.1 * " if kind in ("hvp", "hessian") else ""
        if kind in ("grad", "elementwise_grad"):
            self.bind(f"adjit.{kind}({name})({a.text})", a.shape)
        elif kind in ("jvp", "linearize"):
            direction = f"{self.bounded(a.shape)}"
            call = f"({a.text},), ({direction},))[1]" if kind == "jvp" else f"{a.text})[1]({direction})"
            self.bind(f"adjit.{kind}({name}, {call}", shape)
        elif kind == "vjp":
            self.bind(f"adjit.vjp({name}, {a.text})[1]({self.bounded(shape)})[0]", a.shape)
        elif kind == "hvp":
            self.bind(f"{scale}adjit.hvp({name})({a.text}, {self.bounded(a.shape)})", a.shape)
        elif size <= 6:
            shape = a.shape if kind == "hessian" else shape
            self.bind(f"{scale}adjit.{kind}({name})({a.text})", (*shape, *a.shape))
        else:
            self.bind(f"np.sum(adjit.{'jacobian' if kind == 'hessian' else kind}({name})({a.text})) * 0.1", ())
