"""Trees of arguments in `adjit_call`: keywords, the items of containers and the fields of dataclasses become objects by
number.

A reference is taken to each item, as another thread, a key's own `__eq__`, or a property among the fields, may change
its container meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable

from adjit.codegen.call_frame import NUMBER, Frame
from adjit.codegen.guards import NULL
from adjit.codegen.llvm import I32, I64, PTR, VOID, Ty, Value, int_literal, literal
from adjit_runtime.program import (
    CALL_BITS,
    CALL_DICT,
    CALL_HASH,
    CALL_LIST,
    CALL_NODE,
    CALL_ORDERED,
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
            f.branch(self._is(CALL_BITS), bits, lambda: f.branch(self._is(CALL_HASH), contents, value))
            return []

        def bits() -> list[Value]:
            ours, theirs = (f.load(f.offset(x, NUMBER), I64) for x in (self.x, known))
            self.frame.give_up(self.frame.differs(ours, theirs))
            return []

        def contents() -> list[Value]:
            number = f.call("PyObject_Hash", I64, [self.x])
            self._refused(f.compare("eq", number, int_literal(-1)), "no_hash")
            self.frame.give_up(self.frame.differs(number, self._field("first")))
            return []

        def value() -> list[Value]:
            self._equal(f.call("PyObject_RichCompareBool", I32, [self.x, known, literal(I32, EQUAL)]))
            return []

        f.branch(self.frame.differs(self.x, known), equal)
        return []

    def _equal(self, found: Value) -> None:
        """Go on where a comparison found two objects equal."""
        self.frame.leave(self.f.compare("slt", found, literal(I32, 0)), self.frame.raised)
        self.frame.give_up(self.f.compare("eq", found, literal(I32, 0)))

    def _refused(self, failed: Value, expected: str) -> None:
        """Where a call of Python's failed, hand ours on if the exception is one that says that this is another tree;
        else raise it."""
        f = self.f

        def handle() -> list[Value]:
            is_it = f.call("PyErr_ExceptionMatches", I32, [self.frame.head(expected, PTR)])
            self.frame.leave(f.compare("eq", is_it, literal(I32, 0)), self.frame.raised)
            f.call("PyErr_Clear", VOID, [])
            return []

        f.branch(failed, handle)
        self.frame.give_up(failed)

    def _container(self) -> list[Value]:
        f = self.f
        type = self.frame.type_of(self.x)
        others = self.frame.differs(type, self._field("other", PTR))
        self.frame.give_up(f.binary("and", self.frame.differs(type, self.type), others))

        def others_than_dicts() -> list[Value]:
            return f.branch(self._is(CALL_LIST), self._list, others_than_lists)

        def others_than_lists() -> list[Value]:
            return f.branch(self._is(CALL_TUPLE), self._tuple, guests)

        def guests() -> list[Value]:
            return f.branch(self._is(CALL_ORDERED), self._ordered, self._object)

        f.branch(self._is(CALL_DICT), self._dict, others_than_dicts)
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

    def _ordered(self) -> list[Value]:
        """By the order in the dict itself, which `PyDict_Next` walks, also one that is changed meanwhile."""
        f = self.f
        keys = self._field("known", PTR)
        position, key, value = (f.alloca(ty, 1) for ty in (I64, PTR, PTR))
        f.store(int_literal(0), position)
        self._count("PyDict_Size")

        def one(i: Value) -> None:
            found = f.call("PyDict_Next", I32, [self.x, position, key, value])
            self.frame.give_up(f.compare("eq", found, literal(I32, 0)))
            ours, known = f.load(key, PTR), self.frame.at(keys, i)
            x = f.load(value, PTR)
            f.call("Py_IncRef", VOID, [x])
            self._number(i, x)

            def compare() -> list[Value]:
                f.call("Py_IncRef", VOID, [ours])
                equal = f.call("PyObject_RichCompareBool", I32, [ours, known, literal(I32, EQUAL)])
                f.call("Py_DecRef", VOID, [ours])
                self._equal(equal)
                return []

            f.branch(self.frame.differs(ours, known), compare)

        self._each(one)
        return []

    def _object(self) -> list[Value]:
        f = self.f
        names = self._field("known", PTR)

        def one(i: Value) -> None:
            x = f.call("PyObject_GetAttr", PTR, [self.x, self.frame.at(names, i)])
            self._refused(f.compare("eq", x, NULL), "no_attribute")
            self._number(i, x)

        self._each(one)
        return []

    def _items(self, size: str, item: Callable[[Value], Value]) -> None:
        self._count(size)

        def one(i: Value) -> None:
            x = item(i)
            self.f.call("Py_IncRef", VOID, [x])
            self._number(i, x)

        self._each(one)

    def _count(self, size: str) -> None:
        self.frame.give_up(self.frame.differs(self.f.call(size, I64, [self.x]), self._field("count")))

    def _number(self, i: Value, x: Value) -> None:
        """Let an item, with a reference of ours, be an object of the call."""
        self.frame.hold(x)
        self.f.store(x, self.f.element(self.objects, PTR, self.f.add(self._field("first"), i)))

    def _each(self, each: Callable[[Value], None]) -> None:
        def one(i: Value, _: list[Value]) -> list[Value]:
            each(i)
            return []

        self.f.loop(0, self._field("count"), 1, [], one)
