"""The loop over minibatches as machine code: shuffle, gather of rows, steps. One function serves all programs.

    i64 adjit_run(ptr desc)

`desc` is an array of i64 words; pointers are words too. `HEAD` names the first ones; after them stand `arrays` records
of `ARRAY` words, then `outputs` records of `OUTPUT` words. It makes at most `budget` steps from `position` on and
returns 0, or what the entry returned at the step that failed or was interrupted; `position`, `done` and `budget` say
how far it came, so that calling it again goes on. Where `order` is not null, rows are taken in its order, which is made
anew at position 0: Fisher-Yates from the key fold_in(seed, step count), the same as `adjit.random.permutation`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from adjit.codegen.lanes import Lanes
from adjit.codegen.llvm import I1, I32, I64, PTR, VOID, Function, Module, Ty, Value, int_literal, literal, type_of
from adjit.codegen.subnormals import flushing
from adjit_runtime.program import RUN_ARRAY, RUN_HEAD, RUN_OUTPUT

I128 = type_of("i", 128, 0)
FOLD = 1 << 61


def emit_run_library(module: Module) -> None:
    """Write `adjit_run` and what it calls."""
    _emit_shuffle(module)
    _emit_gather(module)
    _emit_run(module)


def _emit_shuffle(module: Module) -> None:
    f = module.function(
        "adjit_shuffle", VOID, [(PTR, "order"), (I64, "count"), (I64, "seed"), (I64, "step")], internal=True
    )
    order, count, seed, step = f.params
    kit = Lanes(f, 0)
    int64 = np.dtype(np.int64)
    folded = f.binary("or", step, int_literal(FOLD))
    key = kit.threefry(kit.wrap(seed, int64), kit.wrap(folded, int64))

    def number(i: Value, _: list[Value]) -> list[Value]:
        f.store(i, f.element(order, I64, i))
        return []

    def swap(back: Value, _: list[Value]) -> list[Value]:
        i = f.sub(count, back)
        word = kit.threefry(key, kit.wrap(i, int64)).value
        wide = f.binary("mul", f.convert("zext", word, I128), f.convert("zext", f.add(i, 1), I128))
        j = f.convert("trunc", f.binary("lshr", wide, literal(I128, 64)), I64)
        here, there = f.element(order, I64, i), f.element(order, I64, j)
        a, b = f.load(here, I64), f.load(there, I64)
        f.store(b, here)
        f.store(a, there)
        return []

    f.loop(0, count, 1, [], number)
    f.loop(1, count, 1, [], swap)
    f.ret()


def _emit_gather(module: Module) -> None:
    """Rows of one array: 4 and 8 bytes (a label, a number) by a load and a store, others by memcpy."""
    f = module.function(
        "adjit_rows",
        VOID,
        [(PTR, "to"), (PTR, "source"), (I64, "nbytes"), (PTR, "order"), (I64, "count")],
        internal=True,
    )
    to, source, nbytes, order, count = f.params

    def copy(move: Callable[[Value, Value], None]) -> Callable[[], list[Value]]:
        def rows() -> list[Value]:
            def row(i: Value, _: list[Value]) -> list[Value]:
                at = f.load(f.element(order, I64, i), I64)
                move(f.offset(to, f.mul(i, nbytes)), f.offset(source, f.mul(at, nbytes)))
                return []

            f.loop(0, count, 1, [], row)
            return []

        return rows

    def word(ty: Ty) -> Callable[[Value, Value], None]:
        return lambda target, origin: f.store(f.load(origin, ty, 1), target, 1)

    def many(target: Value, origin: Value) -> None:
        f.call("llvm.memcpy.p0.p0.i64", VOID, [target, origin, nbytes, Value(I1, "false")])

    module.declare("llvm.memcpy.p0.p0.i64", VOID, [PTR, PTR, I64, I1])
    f.branch(
        f.compare("eq", nbytes, int_literal(8)),
        copy(word(I64)),
        lambda: f.branch(f.compare("eq", nbytes, int_literal(4)), copy(word(I32)), copy(many)),
    )
    f.ret()


class _Desc:
    """Fields of the descriptor by name."""

    def __init__(self, f: Function, pointer: Value) -> None:
        self.f = f
        self.pointer = pointer

    def _place(self, name: str) -> Value:
        return self.f.element(self.pointer, I64, RUN_HEAD.index(name))

    def word(self, name: str) -> Value:
        return self.f.load(self._place(name), I64)

    def address(self, name: str) -> Value:
        return self.f.load(self._place(name), PTR)

    def set(self, name: str, value: Value) -> None:
        self.f.store(value, self._place(name))


def _emit_run(module: Module) -> None:
    """The loop; where its programs flush subnormal numbers the mode is set once for all of them."""
    _emit_steps(module)
    f = module.function("adjit_run", I64, [(PTR, "desc")])
    (pointer,) = f.params

    def steps() -> Value:
        return f.call("adjit_steps", I64, [pointer])

    flushes = f.compare("ne", _Desc(f, pointer).word("flushes"), int_literal(0))
    (status,) = f.branch(flushes, lambda: [flushing(f, steps)], lambda: [steps()])
    f.ret(status)


def _emit_steps(module: Module) -> None:
    f = module.function("adjit_steps", I64, [(PTR, "desc")], internal=True)
    (pointer,) = f.params
    desc = _Desc(f, pointer)
    order, rows, batch, rest = desc.address("order"), desc.word("rows"), desc.word("batch"), desc.word("rest")
    arena, report = desc.address("arena"), desc.address("report")
    shuffled = f.compare("ne", desc.word("order"), int_literal(0))
    arrays, outputs = desc.word("arrays"), desc.word("outputs")
    first_output = f.add(f.mul(arrays, len(RUN_ARRAY)), len(RUN_HEAD))

    def step() -> None:
        position, done = desc.word("position"), desc.word("done")
        begins = f.binary("and", shuffled, f.compare("eq", position, int_literal(0)))

        def shuffle() -> list[Value]:
            count = f.load(desc.address("step"), I64)
            f.call("adjit_shuffle", VOID, [order, rows, desc.word("seed"), count])
            return []

        f.branch(begins, shuffle)
        take = f.minimum(batch, f.sub(rows, position))
        whole = f.compare("eq", take, batch)
        table = f.select(whole, desc.address("table"), desc.address("rest_table"))
        entry = f.select(whole, desc.address("entry"), desc.address("rest_entry"))

        def bind(i: Value, _: list[Value]) -> list[Value]:
            record = f.element(pointer, I64, f.add(f.mul(i, len(RUN_ARRAY)), len(RUN_HEAD)))
            source, nbytes, buffer, at, rest_at = (
                f.load(f.element(record, I64, k), PTR if name in ("source", "buffer") else I64)
                for k, name in enumerate(RUN_ARRAY)
            )

            def gather() -> list[Value]:
                f.call("adjit_rows", VOID, [buffer, source, nbytes, f.element(order, I64, position), take])
                return [buffer]

            (address,) = f.branch(shuffled, gather, lambda: [f.offset(source, f.mul(position, nbytes))])
            f.store(address, f.element(table, PTR, f.select(whole, at, rest_at)))
            return []

        def place(i: Value, _: list[Value]) -> list[Value]:
            record = f.element(pointer, I64, f.add(f.mul(i, len(RUN_OUTPUT)), first_output))
            base, nbytes, at, rest_at = (
                f.load(f.element(record, I64, k), PTR if name == "base" else I64) for k, name in enumerate(RUN_OUTPUT)
            )
            f.store(f.offset(base, f.mul(done, nbytes)), f.element(table, PTR, f.select(whole, at, rest_at)))
            return []

        f.loop(0, arrays, 1, [], bind)
        f.loop(0, outputs, 1, [], place)
        status = f.call_pointer(entry, I64, [table, arena, report])
        f.return_if(f.compare("ne", status, int_literal(0)), status)
        after = f.add(position, take)
        left = f.sub(rows, after)
        short = f.binary("and", f.compare("slt", left, batch), f.compare("eq", rest, int_literal(0)))
        over = f.binary("or", short, f.compare("eq", left, int_literal(0)))
        desc.set("position", f.select(over, int_literal(0), after))
        desc.set("done", f.add(done, 1))
        desc.set("budget", f.sub(desc.word("budget"), 1))

    def once(_: list[Value]) -> list[Value]:
        step()
        return []

    f.while_loop([], lambda _: f.compare("sgt", desc.word("budget"), int_literal(0)), once)
    f.ret(int_literal(0))
