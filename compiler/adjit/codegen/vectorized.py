"""A body as it is emitted: which of its dimensions fills vectors, and what that makes of each instruction; and what is
known of it inside some loops.

`Vectorized` is what the parts of a loop nest share: they ask it, and write into its `function`."""

from __future__ import annotations

from dataclasses import dataclass, field

from adjit.codegen.analysis import Analysis, analyse
from adjit.codegen.lanes import Lane, Lanes
from adjit.codegen.llvm import I1, Function, Value
from adjit.schedule.instructions import Body, Instruction, Reduce, Store


@dataclass(eq=False, slots=True)
class Scope:
    """What is known inside some loops: values of instructions, indices, addresses, and the mask of a tail.

    `steps` are products of a dimension's index and a coefficient; `wide` has values in every lane, `copy` the number of
    the scope among those that go through the inner loops at once."""

    entered: tuple[int, ...] = ()
    index: dict[int, Value] = field(default_factory=dict)
    values: dict[int, Lane] = field(default_factory=dict)
    addresses: dict[tuple[int, tuple[int, ...]], Value] = field(default_factory=dict)
    steps: dict[tuple[int, int], Value] = field(default_factory=dict)
    wide: dict[int, Lane] = field(default_factory=dict)
    mask: Value | None = None
    copy: int = 0

    def enter(self, dim: int, index: Value, mask: Value | None) -> Scope:
        """The scope inside one more loop."""
        return Scope(
            (*self.entered, dim),
            {**self.index, dim: index},
            dict(self.values),
            dict(self.addresses),
            {at: step for at, step in self.steps.items() if at[0] != dim},
            dict(self.wide),
            mask if mask is not None else self.mask,
            self.copy,
        )


class Vectorized:
    """`body` in `function`, `lanes` elements of dimension `vector` at a time (None: one element at a time).

    code, varies, passes   the instructions, the dimensions along which each varies, the pass that computes it
    reduced                the dimensions of the inner loops
    running                whether reductions run along theirs, and are no row's value
    scalar, vectors        the arithmetic of one element, and of all lanes"""

    def __init__(self, function: Function, body: Body, lanes: int, vector: int | None, running: bool) -> None:
        self.function = function
        self.body = body
        self.code = body.code
        self.lanes = lanes
        self.vector = vector
        self.running = running
        self.analysis: Analysis = analyse(body, running)
        self.varies = self.analysis.varies
        self.passes = self.analysis.passes
        self.reduced = frozenset(body.reduced)
        self.scalar = Lanes(function, 0)
        self.vectors = Lanes(function, lanes) if vector is not None else self.scalar

    @property
    def reduces_lanes(self) -> bool:
        """Whether the lanes lie along a dimension that is reduced."""
        return self.vector in self.reduced

    def is_full(self, number: int) -> bool:
        """Whether an instruction belongs to the inner loops, as it varies along them."""
        return bool(self.varies[number] & self.reduced)

    def is_wide(self, number: int) -> bool:
        """Whether an instruction's value differs from lane to lane."""
        return self.vector is not None and self.vector in self.varies[number]

    def is_value(self, number: int) -> bool:
        """Whether an instruction is computed by itself: no store, no reduction."""
        return not isinstance(self.code[number], (Store, Reduce))

    def reduction(self, number: int) -> Reduce:
        """The reduction of that number."""
        instruction: Instruction = self.code[number]
        assert isinstance(instruction, Reduce)
        return instruction

    def stores(self, number: int) -> Store:
        """The store of that number."""
        instruction: Instruction = self.code[number]
        assert isinstance(instruction, Store)
        return instruction

    def widened(self, number: int, scope: Scope) -> Lane:
        """An instruction's value in every lane."""
        value = scope.values[number]
        if self.vector is None or value.value.ty.lanes:
            return value
        if number not in scope.wide:
            scope.wide[number] = self.vectors.wrap(self.function.splat(value.value, self.lanes), value.dtype)
        return scope.wide[number]

    def tail_mask(self, rest: int) -> Value:
        """The first `rest` lanes."""
        bits = ", ".join(f"i1 {'true' if lane < rest else 'false'}" for lane in range(self.lanes))
        return Value(I1.vector(self.lanes), f"<{bits}>")
