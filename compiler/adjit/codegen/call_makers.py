"""Trees of results in `adjit_call`: the results become parts of dicts, lists, tuples and dataclasses.

What runs code of users, as a class that is called, may raise: then what was made is dropped, and the call raises it."""

from __future__ import annotations

from collections.abc import Callable

from adjit.codegen.call_frame import Frame
from adjit.codegen.guards import NULL
from adjit.codegen.llvm import I32, I64, PTR, VOID, Value, int_literal, literal
from adjit_runtime.program import (
    CALL_DEFAULT,
    CALL_DICT,
    CALL_INIT,
    CALL_KNOWN,
    CALL_LIST,
    CALL_MAKER,
    CALL_OBJECT,
    CALL_ORDERED,
    CALL_TUPLE,
)


def make_trees(frame: Frame) -> Value:
    """Put the parts together; the number of the part that is the result."""
    f = frame.f
    parts, results, makers = frame.head("parts", PTR), frame.head("results"), frame.head("makers")
    records = frame.head("maker_records", PTR)

    def one(i: Value, _: list[Value]) -> list[Value]:
        maker = _Maker(frame, parts, f.element(records, I64, f.mul(i, len(CALL_MAKER))), f.add(results, i))
        maker.emit()
        return []

    f.loop(0, makers, 1, [], one)
    return f.sub(f.add(results, makers), 1)


class _Maker:
    """How one container is made of its children, whose references go into it."""

    def __init__(self, frame: Frame, parts: Value, record: Value, number: Value) -> None:
        self.frame, self.f, self.parts, self.record = frame, frame.f, parts, record
        self.place = self.f.element(parts, PTR, number)
        self.kind, self.count = (frame.field(CALL_MAKER, record, name) for name in ("kind", "count"))
        self.children, self.known = (frame.field(CALL_MAKER, record, name, PTR) for name in ("children", "known"))

    def emit(self) -> None:
        """Make the part."""
        f = self.f
        table = (
            (CALL_DICT, lambda: self._with_items(f.call("PyDict_New", PTR, []), "PyDict_SetItem")),
            (CALL_LIST, self._list),
            (CALL_TUPLE, self._tuple),
            (CALL_KNOWN, self._is_known),
            (CALL_ORDERED, lambda: self._with_items(f.call("PyODict_New", PTR, []), "PyODict_SetItem")),
            (CALL_DEFAULT, lambda: self._with_items(self._made(), "PyDict_SetItem")),
            # What object.__setattr__ is.
            (CALL_OBJECT, lambda: self._with_items(self._made(), "PyObject_GenericSetAttr")),
            (CALL_INIT, self._init),
        )
        self._choose(list(table), self._by)

    def _choose(self, table: list[tuple[int, Callable[[], None]]], last: Callable[[], None]) -> None:
        def written(write: Callable[[], None]) -> Callable[[], list[Value]]:
            def run() -> list[Value]:
                write()
                return []

            return run

        if not table:
            last()
            return
        (kind, first), *rest = table
        self.f.branch(
            self.f.compare("eq", self.kind, int_literal(kind)),
            written(first),
            written(lambda: self._choose(rest, last)),
        )

    def _begin(self, x: Value) -> Value:
        self.frame.need(x)
        self.f.store(x, self.place)
        return x

    def _each(self, put: Callable[[Value, Value], None]) -> None:
        f = self.f

        def one(i: Value, _: list[Value]) -> list[Value]:
            child = f.load(f.element(self.children, I64, i), I64)
            put(i, self.frame.take(self.parts, child))
            return []

        f.loop(0, self.count, 1, [], one)

    def _made(self) -> Value:
        f = self.f
        of = f.element(self.record, I64, CALL_MAKER.index("of"))
        return f.call("PyObject_Vectorcall", PTR, [self._field("make"), of, int_literal(1), NULL])

    def _field(self, name: str) -> Value:
        return self.frame.field(CALL_MAKER, self.record, name, PTR)

    def _with_items(self, new: Value, set_item: str) -> None:
        f = self.f
        whole = self._begin(new)

        def put(i: Value, x: Value) -> None:
            status = f.call(set_item, I32, [whole, self.frame.at(self.known, i), x])
            f.call("Py_DecRef", VOID, [x])
            self.frame.leave(f.compare("slt", status, literal(I32, 0)), self.frame.raised)

        self._each(put)

    def _list(self) -> None:
        whole = self._begin(self.f.call("PyList_New", PTR, [self.count]))
        self._each(lambda i, x: self._put("PyList_SetItem", whole, i, x))

    def _tuple(self) -> None:
        whole = self._begin(self.f.call("PyTuple_New", PTR, [self.count]))
        self._each(lambda i, x: self._put("PyTuple_SetItem", whole, i, x))

    def _put(self, name: str, whole: Value, i: Value, x: Value) -> None:
        # Takes the reference. It cannot fail in a new container of this size.
        self.f.call(name, I32, [whole, i, x])

    def _is_known(self) -> None:
        self.f.call("Py_IncRef", VOID, [self.known])
        self._begin(self.known)

    def _init(self) -> None:
        f = self.f

        def put(_: Value, keywords: Value) -> None:
            made = f.call("PyObject_Call", PTR, [self._field("make"), self._field("of"), keywords])
            f.call("Py_DecRef", VOID, [keywords])
            self._begin(made)

        self._each(put)

    def _by(self) -> None:
        f = self.f
        self._tuple()
        leaves = f.load(self.place, PTR)
        made = f.call("PyObject_Vectorcall", PTR, [self.known, self.place, int_literal(1), NULL])
        f.store(made, self.place)
        f.call("Py_DecRef", VOID, [leaves])
        self.frame.need(made)
