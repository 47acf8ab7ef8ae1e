"""The native entry of a compiled function as machine code: checks the arguments, binds them, runs, makes results.

    ptr adjit_call(ptr self, ptr args, i64 count, ptr names)

A builtin of CPython (METH_FASTCALL | METH_KEYWORDS). `self` is a tuple (.., words, words, ...) that owns every
reference: `words` is an int64 array with the `CALL_HEAD` words, then `CALL_LEAF` and `CALL_RESULT` records (see
`adjit_runtime.program`). Whatever does not fit goes to the object `slow` with the same arguments: other types, dtypes,
shapes, keywords, trees, a busy program, a check that failed. Arrays that are not C-ordered or lie in the memory of the
state are copied. What a handler of a signal raises in the call is raised by it. No address of an object is in the code.
One function serves all programs. The word that marks a state busy is the one that calls through Python take, too
(`guards`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from adjit.codegen.call_frame import (
    ARRAY_DATA,
    ARRAY_DESCR,
    ARRAY_DIMS,
    ARRAY_FLAGS,
    ARRAY_NDIM,
    C_CONTIGUOUS_ALIGNED,
    DESCR_NUMBER,
    DESCR_ORDER,
    NUMBER,
    CallFrame,
)
from adjit.codegen.call_guests import emit_guests
from adjit.codegen.call_trees import make_trees, number_objects
from adjit.codegen.guards import NULL, exchange
from adjit.codegen.llvm import F32, F64, I1, I8, I32, I64, PTR, VOID, Module, Value, int_literal, literal
from adjit_runtime.program import (
    CALL_ARRAY,
    CALL_FLOAT,
    CALL_HEAD,
    CALL_INT,
    CALL_LEAF,
    CALL_LOSS64,
    CALL_RESULT,
    INTERRUPTED,
    MOST_DIMENSIONS,
)


def emit_call_library(module: Module) -> None:
    """Write `adjit_call`, and the functions beside it."""
    emit_guests(module)
    _Call(module).emit()


class _Call(CallFrame):
    def record(self, fields: Sequence[str], start: Value, number: Value) -> Value:
        return self.f.element(self.words, I64, self.f.add(start, self.f.mul(number, len(fields) + MOST_DIMENSIONS)))

    def emit(self) -> None:
        f = self.f
        named = self.differs(self.names, NULL)
        (keywords,) = f.branch(named, lambda: [f.call("PyTuple_Size", I64, [self.names])], lambda: [int_literal(0)])
        self.leave(self.differs(keywords, self.head("keywords")), self.others)
        self.leave(self.differs(self.count, self.head("arguments")), self.others)
        # Before anything is written: another thread may be running with this table.
        was = exchange(f, self.busy, int_literal(0), int_literal(1))
        self.leave(self.differs(was, int_literal(0)), self.others)
        plain = self.differs(self.head("plain"), int_literal(0))
        (objects,) = f.branch(plain, lambda: [self.args], lambda: [number_objects(self)])
        table = self.head("table", PTR)
        first, leaves, results = int_literal(len(CALL_HEAD)), self.head("leaves"), self.head("results")
        f.loop(0, leaves, 1, [], lambda i, _: self._leaf(table, objects, self.record(CALL_LEAF, first, i)))
        after = f.add(first, f.mul(leaves, len(CALL_LEAF) + MOST_DIMENSIONS))
        parts = self.head("parts", PTR)
        f.loop(0, results, 1, [], lambda i, _: self._result(table, self.record(CALL_RESULT, after, i), parts, i))
        status = self._run(table)
        # The exception of the handler is set.
        self.leave(f.compare("eq", status, int_literal(INTERRUPTED)), self.raised)
        # The slow path finds out what was wrong.
        self.leave(self.differs(status, int_literal(0)), self.failed)

        def one() -> list[Value]:
            return [self._finished(self.record(CALL_RESULT, after, int_literal(0)), parts, int_literal(0))]

        def tree() -> list[Value]:
            def finish(i: Value, _: list[Value]) -> list[Value]:
                x = self._finished(self.record(CALL_RESULT, after, i), parts, i)
                f.store(x, f.element(parts, PTR, i))
                return []

            f.loop(0, results, 1, [], finish)
            return [self.take(parts, make_trees(self))]

        (result,) = f.branch(self.differs(self.head("makers"), int_literal(0)), tree, one)
        self.let_in()
        f.ret(result)
        self.emit_ways_out()

    # -- arguments ----------------------------------------------------------------------------------------------------

    def _leaf(self, table: Value, objects: Value, record: Value) -> list[Value]:
        f = self.f
        x = self.at(objects, self.field(CALL_LEAF, record, "source"))
        kind = self.field(CALL_LEAF, record, "kind")
        place = f.element(table, PTR, self.field(CALL_LEAF, record, "slot"))

        def is_kind(kind_: int) -> Value:
            return f.compare("eq", kind, int_literal(kind_))

        def number() -> list[Value]:
            home = f.element(record, I64, CALL_LEAF.index("value"))
            f.store(home, place)
            f.branch(is_kind(CALL_FLOAT), lambda: self._float(x, home), integer_or_bool(home))
            return []

        def integer_or_bool(home: Value) -> Callable[[], list[Value]]:
            def write() -> list[Value]:
                f.branch(is_kind(CALL_INT), lambda: self._int(x, home), lambda: self._bool(x, home))
                return []

            return write

        def otherwise() -> list[Value]:
            f.branch(f.compare("uge", kind, int_literal(CALL_FLOAT)), number, lambda: self._state(x))
            return []

        f.branch(is_kind(CALL_ARRAY), lambda: self._array_or_scalar(x, record, place), otherwise)
        return []

    def _array_or_scalar(self, x: Value, record: Value, place: Value) -> list[Value]:
        f = self.f

        def scalar() -> list[Value]:
            self.give_up(self.differs(self.type_of(x), self.field(CALL_LEAF, record, "scalar", PTR)))
            return [f.offset(x, NUMBER)]

        is_array = f.compare("eq", self.type_of(x), self.head("array_type", PTR))
        (data,) = f.branch(is_array, lambda: [self._array(x, record)], scalar)
        f.store(data, place)
        return []

    def _array(self, x: Value, record: Value) -> Value:
        """The address of the elements of an array that fits, or of a copy."""
        f = self.f
        descr = f.load(f.offset(x, ARRAY_DESCR), PTR)

        def same_type() -> list[Value]:
            number = f.convert("sext", f.load(f.offset(descr, DESCR_NUMBER), I32), I64)
            self.give_up(self.differs(number, self.field(CALL_LEAF, record, "number")))
            order = self.byte_at(descr, DESCR_ORDER)
            swapped = f.binary("and", *(self.differs(order, literal(I8, ord(native))) for native in "=|"))
            self.give_up(swapped)
            return []

        f.branch(self.differs(descr, self.field(CALL_LEAF, record, "descr", PTR)), same_type)
        ndim = f.convert("sext", f.load(f.offset(x, ARRAY_NDIM), I32), I64)
        self.give_up(self.differs(ndim, self.field(CALL_LEAF, record, "ndim")))
        dims = f.load(f.offset(x, ARRAY_DIMS), PTR)

        def compare(d: Value, _: list[Value]) -> list[Value]:
            known = f.load(f.element(record, I64, f.add(d, len(CALL_LEAF))), I64)
            self.give_up(self.differs(f.load(f.element(dims, I64, d), I64), known))
            return []

        f.loop(0, ndim, 1, [], compare)
        data = f.load(f.offset(x, ARRAY_DATA), PTR)
        end = f.offset(data, self.field(CALL_LEAF, record, "nbytes"))
        below = f.compare("ult", data, self.head("block_end", PTR))
        above = f.compare("ugt", end, self.head("block", PTR))
        flags, wanted = f.load(f.offset(x, ARRAY_FLAGS), I32), literal(I32, C_CONTIGUOUS_ALIGNED)
        strided = self.differs(f.binary("and", flags, wanted), wanted)
        takes_copy = f.binary("or", strided, f.binary("and", below, above))
        (data,) = f.branch(takes_copy, lambda: [self._copied(x)], lambda: [data])
        return data

    def _copied(self, x: Value) -> Value:
        """The elements of a C-ordered copy that lives as long as the call."""
        f = self.f
        copy = f.call_pointer(self.head("copy", PTR), PTR, [x, literal(I32, 0)])
        self.need(copy)
        self.hold(copy)
        return f.load(f.offset(copy, ARRAY_DATA), PTR)

    def _state(self, x: Value) -> list[Value]:
        self.give_up(self.differs(x, self.head("state", PTR)))
        return []

    def _float(self, x: Value, home: Value) -> list[Value]:
        f = self.f
        self.give_up(self.differs(self.type_of(x), self.head("float_type", PTR)))
        f.store(f.load(f.offset(x, NUMBER), I64), home)
        return []

    def _int(self, x: Value, home: Value) -> list[Value]:
        f = self.f
        self.give_up(self.differs(self.type_of(x), self.head("int_type", PTR)))
        overflow = f.alloca(I32, 1)
        value = f.call("PyLong_AsLongLongAndOverflow", I64, [x, overflow])
        self.give_up(self.differs(f.load(overflow, I32), literal(I32, 0)))
        f.store(value, home)
        return []

    def _bool(self, x: Value, home: Value) -> list[Value]:
        f = self.f
        true = f.compare("eq", x, self.head("true", PTR))
        self.give_up(f.compare("eq", f.binary("or", true, f.compare("eq", x, self.head("false", PTR))), literal(I1, 0)))
        f.store(f.convert("zext", true, I64), home)
        return []

    # -- results ------------------------------------------------------------------------------------------------------

    def _result(self, table: Value, record: Value, parts: Value, i: Value) -> list[Value]:
        """Memory for one result."""
        f = self.f
        place = f.element(table, PTR, self.field(CALL_RESULT, record, "slot"))
        kind = self.field(CALL_RESULT, record, "kind")

        def loss() -> list[Value]:
            f.store(f.element(record, I64, CALL_RESULT.index("value")), place)
            return []

        def array() -> list[Value]:
            descr = self.field(CALL_RESULT, record, "descr", PTR)
            f.call("Py_IncRef", VOID, [descr])
            ndim = f.convert("trunc", self.field(CALL_RESULT, record, "ndim"), I32)
            dims = f.element(record, I64, len(CALL_RESULT))
            arguments = [self.head("array_type", PTR), descr, ndim, dims, NULL, NULL, literal(I32, 0), NULL]
            x = f.call_pointer(self.head("new_array", PTR), PTR, arguments)
            self.need(x)
            f.store(x, f.element(parts, PTR, i))
            f.store(f.load(f.offset(x, ARRAY_DATA), I64), place)
            return []

        f.branch(self.differs(kind, int_literal(CALL_ARRAY)), loss, array)
        return []

    def _run(self, table: Value) -> Value:
        f = self.f
        arguments = [table, self.head("arena", PTR), self.head("report", PTR)]
        entry = self.head("entry", PTR)

        def released() -> list[Value]:
            thread = f.call("PyEval_SaveThread", PTR, [])
            status = f.call_pointer(entry, I64, arguments)
            f.call("PyEval_RestoreThread", VOID, [thread])
            return [status]

        (status,) = f.branch(
            self.differs(self.head("release"), int_literal(0)),
            released,
            lambda: [f.call_pointer(entry, I64, arguments)],
        )
        return status

    def _finished(self, record: Value, parts: Value, i: Value) -> Value:
        """A result as users get it, taken out of the parts: an array, a NumPy scalar, or a Python float."""
        f = self.f
        kind = self.field(CALL_RESULT, record, "kind")

        def array() -> list[Value]:
            # PyArray_Return makes a scalar of an array without dimensions, and takes the reference.
            return [f.call_pointer(self.head("as_scalar", PTR), PTR, [self.take(parts, i)])]

        is_loss = self.differs(kind, int_literal(CALL_ARRAY))
        (x,) = f.branch(is_loss, lambda: [self._float_of(record, kind)], array)
        self.need(x)
        return x

    def _float_of(self, record: Value, kind: Value) -> Value:
        f = self.f
        home = f.element(record, I64, CALL_RESULT.index("value"))
        wide = f.compare("eq", kind, int_literal(CALL_LOSS64))
        (value,) = f.branch(wide, lambda: [f.load(home, F64)], lambda: [f.convert("fpext", f.load(home, F32), F64)])
        return f.call("PyFloat_FromDouble", PTR, [value])
