"""The native entry of a compiled function as machine code: checks NumPy arrays, binds them, runs, makes results.

    ptr adjit_call(ptr self, ptr args, i64 count, ptr names)

A builtin of CPython (METH_FASTCALL | METH_KEYWORDS). `self` is a tuple (.., words, ...) that owns every reference:
`words` is an int64 array with the `CALL_HEAD` words, then `CALL_ARGUMENT` and `CALL_RESULT` records (see
`adjit_runtime.program`). Whatever does not fit goes to the object `slow` with the same arguments: other types, dtypes,
shapes, layouts, keywords, an argument in a state's memory, a busy program, a check that failed. What a handler of a
signal raises in the call is raised by it. No address of an object is in the code. One function serves all programs. The
word that marks a state busy is the one that calls through Python take, too (`guards`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from adjit.codegen.guards import NULL, exchange
from adjit.codegen.llvm import F32, F64, I32, I64, PTR, VOID, Module, Ty, Value, int_literal, literal
from adjit_runtime.program import (
    CALL_ARGUMENT,
    CALL_ARRAY,
    CALL_FLOAT,
    CALL_HEAD,
    CALL_LOSS64,
    CALL_RESULT,
    CALL_STATE,
    INTERRUPTED,
    MOST_DIMENSIONS,
)

# Offsets in CPython's and NumPy's objects; adjit_runtime.native compares them with live objects before it offers this.
TYPE, TUPLE_ITEMS, FLOAT_VALUE = 8, 24, 16
ARRAY_DATA, ARRAY_NDIM, ARRAY_DIMS, ARRAY_DESCR, ARRAY_FLAGS = 16, 24, 32, 56, 64
C_CONTIGUOUS_ALIGNED = 0x1 | 0x100
MOST_RESULTS = 8


def emit_call_library(module: Module) -> None:
    """Write `adjit_call`."""
    _Call(module).emit()


class _Call:
    def __init__(self, module: Module) -> None:
        self.f = module.function("adjit_call", PTR, [(PTR, "self"), (PTR, "args"), (I64, "count"), (PTR, "names")])
        self.self, self.args, self.count, self.names = self.f.params
        f = self.f
        words = f.load(f.offset(self.self, TUPLE_ITEMS + 8), PTR)
        self.words = f.load(f.offset(words, ARRAY_DATA), PTR)
        self.busy = self.head("busy", PTR)

    def head(self, name: str, ty: Ty = I64) -> Value:
        return self.f.load(self.f.element(self.words, I64, CALL_HEAD.index(name)), ty)

    def record(self, fields: Sequence[str], start: Value, number: Value) -> Value:
        return self.f.element(self.words, I64, self.f.add(start, self.f.mul(number, len(fields) + MOST_DIMENSIONS)))

    def field(self, fields: Sequence[str], record: Value, name: str, ty: Ty = I64) -> Value:
        return self.f.load(self.f.element(record, I64, fields.index(name)), ty)

    def slow(self) -> Value:
        """The next path's result. A reference of our own: another thread may set another path meanwhile."""
        f = self.f
        path = self.head("slow", PTR)
        f.call("Py_IncRef", VOID, [path])
        result = f.call("PyObject_Vectorcall", PTR, [path, self.args, self.count, self.names])
        f.call("Py_DecRef", VOID, [path])
        return result

    def leave(self, condition: Value, before: Callable[[], None] = lambda: None) -> None:
        """Do `before` and go to the slow path where `condition` holds."""
        f = self.f
        leave, stay = f._new_labels("leave", "stay")
        f.line(f"br {condition}, label %{leave}, label %{stay}")
        f._label(leave)
        before()
        f.ret(self.slow())
        f._label(stay)

    def give_up(self, condition: Value) -> None:
        """Where `condition` holds, let others in and go to the slow path: an argument does not fit."""
        self.leave(condition, self.let_in)

    def let_in(self) -> None:
        """The words and the table may be written by another call."""
        self.f.store(int_literal(0), self.busy)

    def differs(self, a: Value, b: Value) -> Value:
        return self.f.compare("ne", a, b)

    def emit(self) -> None:
        f = self.f
        f.module.declare("PyObject_Vectorcall", PTR, [PTR, PTR, I64, PTR])
        f.module.declare("Py_IncRef", VOID, [PTR])
        f.module.declare("Py_DecRef", VOID, [PTR])
        self.leave(self.differs(self.names, NULL))
        self.leave(self.differs(self.count, self.head("arguments")))
        # Before anything is written: another thread may be running with this table.
        was = exchange(f, self.busy, int_literal(0), int_literal(1))
        self.leave(self.differs(was, int_literal(0)))
        table = self.head("table", PTR)
        first = int_literal(len(CALL_HEAD))
        f.loop(0, self.count, 1, [], lambda i, _: self._argument(table, self.record(CALL_ARGUMENT, first, i), i))
        after = f.add(first, f.mul(self.count, len(CALL_ARGUMENT) + MOST_DIMENSIONS))
        results = self.head("results")
        made = f.alloca(PTR, MOST_RESULTS)
        for i in range(MOST_RESULTS):
            f.store(NULL, f.element(made, PTR, i))
        f.loop(
            0, results, 1, [], lambda i, _: self._result(table, self.record(CALL_RESULT, after, i), i, results, made)
        )
        status = self._run(table)
        self.let_in()

        def failed() -> None:
            self._drop(results, made)
            # The exception of the handler is set.
            f.return_if(f.compare("eq", status, int_literal(INTERRUPTED)), NULL)

        # The slow path finds out what was wrong.
        self.leave(f.compare("ne", status, int_literal(0)), failed)
        self._give(results, made)

    # -- arguments ----------------------------------------------------------------------------------------------------

    def _argument(self, table: Value, record: Value, i: Value) -> list[Value]:
        f = self.f
        x = f.load(f.element(self.args, PTR, i), PTR)
        kind = self.field(CALL_ARGUMENT, record, "kind")
        place = f.element(table, PTR, self.field(CALL_ARGUMENT, record, "slot"))

        def otherwise() -> list[Value]:
            f.branch(f.compare("eq", kind, int_literal(CALL_STATE)), lambda: self._state(x), others)
            return []

        def others() -> list[Value]:
            f.branch(
                f.compare("eq", kind, int_literal(CALL_FLOAT)),
                lambda: self._float(x, record, place),
                lambda: self._int(x, record, place),
            )
            return []

        f.branch(f.compare("eq", kind, int_literal(CALL_ARRAY)), lambda: self._array(x, record, place), otherwise)
        return []

    def _type_of(self, x: Value) -> Value:
        return self.f.load(self.f.offset(x, TYPE), PTR)

    def _array(self, x: Value, record: Value, place: Value) -> list[Value]:
        f = self.f
        self.give_up(self.differs(self._type_of(x), self.head("array_type", PTR)))
        descr = f.load(f.offset(x, ARRAY_DESCR), PTR)
        self.give_up(self.differs(descr, self.field(CALL_ARGUMENT, record, "descr", PTR)))
        ndim = f.convert("sext", f.load(f.offset(x, ARRAY_NDIM), I32), I64)
        self.give_up(self.differs(ndim, self.field(CALL_ARGUMENT, record, "ndim")))
        flags = f.load(f.offset(x, ARRAY_FLAGS), I32)
        wanted = literal(I32, C_CONTIGUOUS_ALIGNED)
        self.give_up(self.differs(f.binary("and", flags, wanted), wanted))
        dims = f.load(f.offset(x, ARRAY_DIMS), PTR)

        def compare(d: Value, _: list[Value]) -> list[Value]:
            known = f.load(f.element(record, I64, f.add(d, len(CALL_ARGUMENT))), I64)
            self.give_up(self.differs(f.load(f.element(dims, I64, d), I64), known))
            return []

        f.loop(0, ndim, 1, [], compare)
        data = f.load(f.offset(x, ARRAY_DATA), I64)
        end = f.add(data, self.field(CALL_ARGUMENT, record, "nbytes"))
        below = f.compare("ult", data, self.head("block_end"))
        above = f.compare("ugt", end, self.head("block"))
        self.give_up(f.binary("and", below, above))
        f.store(data, place)
        return []

    def _state(self, x: Value) -> list[Value]:
        self.give_up(self.differs(x, self.head("state", PTR)))
        return []

    def _float(self, x: Value, record: Value, place: Value) -> list[Value]:
        f = self.f
        self.give_up(self.differs(self._type_of(x), self.head("float_type", PTR)))
        home = f.element(record, I64, CALL_ARGUMENT.index("value"))
        f.store(f.load(f.offset(x, FLOAT_VALUE), I64), home)
        f.store(home, place)
        return []

    def _int(self, x: Value, record: Value, place: Value) -> list[Value]:
        f = self.f
        f.module.declare("PyLong_AsLongLongAndOverflow", I64, [PTR, PTR])
        self.give_up(self.differs(self._type_of(x), self.head("int_type", PTR)))
        overflow = f.alloca(I32, 1)
        value = f.call("PyLong_AsLongLongAndOverflow", I64, [x, overflow])
        self.give_up(self.differs(f.load(overflow, I32), literal(I32, 0)))
        home = f.element(record, I64, CALL_ARGUMENT.index("value"))
        f.store(value, home)
        f.store(home, place)
        return []

    # -- results ------------------------------------------------------------------------------------------------------

    def _result(self, table: Value, record: Value, i: Value, results: Value, made: Value) -> list[Value]:
        f = self.f
        place = f.element(table, PTR, self.field(CALL_RESULT, record, "slot"))
        kind = self.field(CALL_RESULT, record, "kind")

        def out_of_memory() -> None:
            self._drop(results, made)
            self.let_in()

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
            f.return_if(f.compare("eq", x, NULL), NULL, out_of_memory)
            f.store(x, f.element(made, PTR, i))
            f.store(f.load(f.offset(x, ARRAY_DATA), I64), place)
            return []

        f.branch(f.compare("ne", kind, int_literal(CALL_ARRAY)), loss, array)
        return []

    def _drop(self, results: Value, made: Value) -> None:
        f = self.f

        def one(i: Value, _: list[Value]) -> list[Value]:
            # Py_DecRef takes NULL.
            f.call("Py_DecRef", VOID, [f.load(f.element(made, PTR, i), PTR)])
            return []

        f.loop(0, results, 1, [], one)

    def _run(self, table: Value) -> Value:
        f = self.f
        f.module.declare("PyEval_SaveThread", PTR, [])
        f.module.declare("PyEval_RestoreThread", VOID, [PTR])
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

    def _give(self, results: Value, made: Value) -> None:
        """One array, one scalar, a Python float, or a tuple."""
        f = self.f
        f.module.declare("PyTuple_New", PTR, [I64])
        f.module.declare("PyTuple_SetItem", I32, [PTR, I64, PTR])
        after = f.add(int_literal(len(CALL_HEAD)), f.mul(self.count, len(CALL_ARGUMENT) + MOST_DIMENSIONS))

        def object_of(i: Value) -> Value:
            record = self.record(CALL_RESULT, after, i)
            kind = self.field(CALL_RESULT, record, "kind")
            x = f.load(f.element(made, PTR, i), PTR)

            def number() -> list[Value]:
                return [self._float_of(record, kind)]

            # PyArray_Return makes a scalar of an array without dimensions.
            (result,) = f.branch(
                f.compare("ne", kind, int_literal(CALL_ARRAY)),
                number,
                lambda: [f.call_pointer(self.head("as_scalar", PTR), PTR, [x])],
            )
            return result

        def single() -> list[Value]:
            return [object_of(int_literal(0))]

        def several() -> list[Value]:
            whole = f.call("PyTuple_New", PTR, [results])
            f.return_if(f.compare("eq", whole, NULL), NULL, lambda: self._drop(results, made))

            def item(i: Value, _: list[Value]) -> list[Value]:
                f.call("PyTuple_SetItem", I32, [whole, i, object_of(i)])
                return []

            f.loop(0, results, 1, [], item)
            return [whole]

        (result,) = f.branch(f.compare("eq", self.head("single"), int_literal(1)), single, several)
        f.ret(result)

    def _float_of(self, record: Value, kind: Value) -> Value:
        f = self.f
        f.module.declare("PyFloat_FromDouble", PTR, [F64])
        home = f.element(record, I64, CALL_RESULT.index("value"))

        def wide() -> list[Value]:
            return [f.load(home, F64)]

        def narrow() -> list[Value]:
            return [f.convert("fpext", f.load(home, F32), F64)]

        (value,) = f.branch(f.compare("eq", kind, int_literal(CALL_LOSS64)), wide, narrow)
        return f.call("PyFloat_FromDouble", PTR, [value])
