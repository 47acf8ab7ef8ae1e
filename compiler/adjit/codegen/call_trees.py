"""Trees of arguments and of results in `adjit_call`: keywords and the items of containers become objects by number, and
the results become parts of dicts, lists and tuples.

A reference is taken to each item, as another thread, or a key's own `__eq__`, may change its container meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable

from adjit.codegen.call_frame import NUMBER, Frame
from adjit.codegen.guards import NULL
from adjit.codegen.llvm import I32, I64, PTR, VOID, Ty, Value, int_literal, literal
from adjit_runtime.program import (
    CALL_BITS,
    CALL_DICT,
    CALL_LIST,
    CALL_MAKER,
    CALL_NODE,
    CALL_NONE,
    CALL_SAME,
    CALL_TUPLE,
)

EQUAL = 2  # Py_EQ


def number_objects(frame: Frame) -> Value:
    """Fill in the objects of a call that is not plain; their address."""
    f = frame.f
    objects = frame.head("objects", PTR)

    def by_position(i: Value, _: list[Value]) -> list[Value]:
        f.store(frame.at(frame.args, i), f.element(objects, PTR, i))
        return []

    f.loop(0, frame.count, 1, [], by_position)
    _keywords(frame, objects)
    records = frame.head("node_records", PTR)

    def node(i: Value, _: list[Value]) -> list[Value]:
        _Node(frame, objects, f.element(records, I64, f.mul(i, len(CALL_NODE)))).emit()
        return []

    f.loop(0, frame.head("nodes"), 1, [], node)
    return objects


def _keywords(frame: Frame, objects: Value) -> None:
    """Keywords come in any order; their names are one object each, as a rule."""
    f = frame.f
    wanted = frame.head("names", PTR)
    given = f.element(frame.args, PTR, frame.count)
    keywords = frame.head("keywords")

    def one(i: Value, _: list[Value]) -> list[Value]:
        name = frame.at(wanted, i)

        def find(is_it: Callable[[Value], Value]) -> Value:
            def look(j: Value, found: list[Value]) -> list[Value]:
                here = is_it(f.call("PyTuple_GetItem", PTR, [frame.names, j]))
                return [f.select(here, frame.at(given, j), found[0])]

            return f.loop(0, keywords, 1, [NULL], look)[0]

        def equal(x: Value) -> Value:
            return f.compare("eq", f.call("PyUnicode_Compare", I32, [x, name]), literal(I32, 0))

        x = find(lambda x: f.compare("eq", x, name))
        (x,) = f.branch(f.compare("eq", x, NULL), lambda: [find(equal)], lambda: [x])
        frame.give_up(f.compare("eq", x, NULL))
        f.store(x, f.element(objects, PTR, f.add(frame.count, i)))
        return []

    f.loop(0, keywords, 1, [], one)


class _Node:
    """What one object must be."""

    def __init__(self, frame: Frame, objects: Value, record: Value) -> None:
        self.frame, self.f, self.objects, self.record = frame, frame.f, objects, record
        self.kind = self._field("kind")
        self.x = frame.at(objects, self._field("source"))
        self.type = self._field("type", PTR)

    def _field(self, name: str, ty: Ty = I64) -> Value:
        return self.frame.field(CALL_NODE, self.record, name, ty)

    def _is(self, kind: int) -> Value:
        return self.f.compare("eq", self.kind, int_literal(kind))

    def emit(self) -> None:
        """Hand the call on where the object is another one; number its items."""
        same = self.f.compare("uge", self.kind, int_literal(CALL_SAME))
        self.f.branch(same, self._same, self._container)

    def _same(self) -> list[Value]:
        f = self.f
        known = self._field("known", PTR)

        def equal() -> list[Value]:
            self.frame.give_up(self.frame.differs(self.frame.type_of(self.x), self.type))
            f.branch(self._is(CALL_BITS), bits, value)
            return []

        def bits() -> list[Value]:
            ours, theirs = (f.load(f.offset(x, NUMBER), I64) for x in (self.x, known))
            self.frame.give_up(self.frame.differs(ours, theirs))
            return []

        def value() -> list[Value]:
            found = f.call("PyObject_RichCompareBool", I32, [self.x, known, literal(I32, EQUAL)])
            self.frame.leave(f.compare("slt", found, literal(I32, 0)), self.frame.raised)
            self.frame.give_up(f.compare("eq", found, literal(I32, 0)))
            return []

        f.branch(self.frame.differs(self.x, known), equal)
        return []

    def _container(self) -> list[Value]:
        f = self.f
        type = self.frame.type_of(self.x)
        others = self.frame.differs(type, self._field("other", PTR))
        self.frame.give_up(f.binary("and", self.frame.differs(type, self.type), others))
        f.branch(self._is(CALL_DICT), self._dict, lambda: f.branch(self._is(CALL_LIST), self._list, self._tuple))
        return []

    def _dict(self) -> list[Value]:
        keys = self._field("known", PTR)
        self._items("PyDict_Size", lambda i: self._by_key(self.frame.at(keys, i)))
        return []

    def _by_key(self, key: Value) -> Value:
        f = self.f
        x = f.call("PyDict_GetItemWithError", PTR, [self.x, key])

        missing = f.compare("eq", x, NULL)

        def failed() -> list[Value]:
            self.frame.leave(self.frame.differs(f.call("PyErr_Occurred", PTR, []), NULL), self.frame.raised)
            return []

        f.branch(missing, failed)
        self.frame.give_up(missing)
        return x

    def _list(self) -> list[Value]:
        self._items("PyList_Size", lambda i: self.f.call("PyList_GetItem", PTR, [self.x, i]))
        return []

    def _tuple(self) -> list[Value]:
        self._items("PyTuple_Size", lambda i: self.f.call("PyTuple_GetItem", PTR, [self.x, i]))
        return []

    def _items(self, size: str, item: Callable[[Value], Value]) -> None:
        f = self.f
        count, first = self._field("count"), self._field("first")
        self.frame.give_up(self.frame.differs(f.call(size, I64, [self.x]), count))

        def one(i: Value, _: list[Value]) -> list[Value]:
            x = item(i)
            f.call("Py_IncRef", VOID, [x])
            self.frame.hold(x)
            f.store(x, f.element(self.objects, PTR, f.add(first, i)))
            return []

        f.loop(0, count, 1, [], one)


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
        self.frame, self.f, self.parts = frame, frame.f, parts
        self.place = self.f.element(parts, PTR, number)
        self.kind, self.count = (frame.field(CALL_MAKER, record, name) for name in ("kind", "count"))
        self.children, self.known = (frame.field(CALL_MAKER, record, name, PTR) for name in ("children", "known"))

    def emit(self) -> None:
        """Make the part."""
        table = ((CALL_DICT, self._dict), (CALL_LIST, self._list), (CALL_TUPLE, self._tuple), (CALL_NONE, self._none))
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

    def _dict(self) -> None:
        f = self.f
        whole = self._begin(f.call("PyDict_New", PTR, []))

        def put(i: Value, x: Value) -> None:
            status = f.call("PyDict_SetItem", I32, [whole, self.frame.at(self.known, i), x])
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

    def _none(self) -> None:
        self.f.call("Py_IncRef", VOID, [self.known])
        self._begin(self.known)

    def _by(self) -> None:
        f = self.f
        self._tuple()
        leaves = f.load(self.place, PTR)
        made = f.call("PyObject_Vectorcall", PTR, [self.known, self.place, int_literal(1), NULL])
        f.store(made, self.place)
        f.call("Py_DecRef", VOID, [leaves])
        self.frame.need(made)
