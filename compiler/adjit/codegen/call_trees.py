"""Trees of arguments and of results in `adjit_call`: keywords and the items of containers become objects by number, and
the results become parts of dicts, lists and tuples. Guests among them go to functions beside (`call_guests`).

A reference is taken to each item, as another thread, or a key's own `__eq__`, may change its container meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable

from adjit.codegen.call_frame import NUMBER, CallFrame, Frame
from adjit.codegen.guards import NULL
from adjit.codegen.llvm import I32, I64, PTR, VOID, Ty, Value, int_literal, literal
from adjit_runtime.program import (
    CALL_BITS,
    CALL_BY,
    CALL_DICT,
    CALL_KNOWN,
    CALL_LIST,
    CALL_MAKER,
    CALL_NODE,
    CALL_SAME,
    CALL_TUPLE,
)

EQUAL = 2  # Py_EQ
NODES, MAKERS = "adjit_nodes", "adjit_makers"
"""What looks at trees with guests, with the parameter `(objects)`, and makes them."""


def number_objects(frame: CallFrame) -> Value:
    """Fill in the objects of a call that is not plain; their address."""
    f = frame.f
    objects = frame.head("objects", PTR)

    def by_position(i: Value, _: list[Value]) -> list[Value]:
        f.store(frame.at(frame.args, i), f.element(objects, PTR, i))
        return []

    f.loop(0, frame.count, 1, [], by_position)
    _keywords(frame, objects)
    frame.where_guests(NODES, [objects], lambda: look_at_nodes(frame, objects, Node))
    return objects


def look_at_nodes(frame: Frame, objects: Value, kind: type[Node]) -> None:
    """Hand the call on where an object is another one than it must be; number the items of those that have some."""
    f = frame.f
    records = frame.head("node_records", PTR)

    def node(i: Value, _: list[Value]) -> list[Value]:
        kind(frame, objects, f.element(records, I64, f.mul(i, len(CALL_NODE)))).emit()
        return []

    f.loop(0, frame.head("nodes"), 1, [], node)


def _keywords(frame: CallFrame, objects: Value) -> None:
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


class Node:
    """What one object must be."""

    def __init__(self, frame: Frame, objects: Value, record: Value) -> None:
        self.frame, self.f, self.objects, self.record = frame, frame.f, objects, record
        self.kind = self.field("kind")
        self.x = frame.at(objects, self.field("source"))
        self.type = self.field("type", PTR)

    def field(self, name: str, ty: Ty = I64) -> Value:
        """A word of the record."""
        return self.frame.field(CALL_NODE, self.record, name, ty)

    def is_kind(self, kind: int) -> Value:
        """Whether the node is of a kind."""
        return self.f.compare("eq", self.kind, int_literal(kind))

    def need_type(self) -> None:
        """Give up where the object is of neither type."""
        type = self.frame.type_of(self.x)
        others = self.frame.differs(type, self.field("other", PTR))
        self.frame.give_up(self.f.binary("and", self.frame.differs(type, self.type), others))

    def equal(self, x: Value, known: Value) -> Value:
        """How a comparison of objects, which both stay alive, ends: for `need_equal`."""
        return self.f.call("PyObject_RichCompareBool", I32, [x, known, literal(I32, EQUAL)])

    def need_equal(self, found: Value) -> None:
        """Give up where two objects were not equal."""
        self.frame.leave(self.f.compare("slt", found, literal(I32, 0)), self.frame.raised)
        self.frame.give_up(self.f.compare("eq", found, literal(I32, 0)))

    def need_count(self, size: str) -> None:
        """Give up where a container has another number of items."""
        self.frame.give_up(self.frame.differs(self.f.call(size, I64, [self.x]), self.field("count")))

    def number_items(self, item: Callable[[Value], Value], check: Callable[[Value], object] = lambda i: None) -> None:
        """Let the items, references of ours that `item` gives, be objects of the call; check each once it is held."""
        count, first = self.field("count"), self.field("first")

        def one(i: Value, _: list[Value]) -> list[Value]:
            x = item(i)
            self.frame.hold(x)
            self.f.store(x, self.f.element(self.objects, PTR, self.f.add(first, i)))
            check(i)
            return []

        self.f.loop(0, count, 1, [], one)

    def emit(self) -> None:
        """Write the code for one node."""
        same = self.f.compare("uge", self.kind, int_literal(CALL_SAME))
        self.f.branch(same, self._same, self._container)

    def _same(self) -> list[Value]:
        f = self.f
        known = self.field("known", PTR)

        def equal() -> list[Value]:
            self.frame.give_up(self.frame.differs(self.frame.type_of(self.x), self.type))
            f.branch(self.is_kind(CALL_BITS), bits, value)
            return []

        def bits() -> list[Value]:
            ours, theirs = (f.load(f.offset(x, NUMBER), I64) for x in (self.x, known))
            self.frame.give_up(self.frame.differs(ours, theirs))
            return []

        def value() -> list[Value]:
            self.need_equal(self.equal(self.x, known))
            return []

        f.branch(self.frame.differs(self.x, known), equal)
        return []

    def _container(self) -> list[Value]:
        f = self.f
        self.need_type()
        f.branch(
            self.is_kind(CALL_DICT), self._dict, lambda: f.branch(self.is_kind(CALL_LIST), self._list, self._tuple)
        )
        return []

    def _dict(self) -> list[Value]:
        keys = self.field("known", PTR)
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
        self.need_count(size)

        def held(i: Value) -> Value:
            x = item(i)
            self.f.call("Py_IncRef", VOID, [x])
            return x

        self.number_items(held)


def make_trees(frame: CallFrame) -> Value:
    """Put the parts together; the number of the part that is the result."""
    f = frame.f
    frame.where_guests(MAKERS, [], lambda: put_together(frame, Maker))
    return f.sub(f.add(frame.head("results"), frame.head("makers")), 1)


def put_together(frame: Frame, kind: type[Maker]) -> None:
    """Make each part of those before it."""
    f = frame.f
    parts, results, makers = frame.head("parts", PTR), frame.head("results"), frame.head("makers")
    records = frame.head("maker_records", PTR)

    def one(i: Value, _: list[Value]) -> list[Value]:
        kind(frame, parts, f.element(records, I64, f.mul(i, len(CALL_MAKER))), f.add(results, i)).emit()
        return []

    f.loop(0, makers, 1, [], one)


Table = list[tuple[int, Callable[[], None]]]


class Maker:
    """How one container is made of its children, whose references go into it."""

    def __init__(self, frame: Frame, parts: Value, record: Value, number: Value) -> None:
        self.frame, self.f, self.parts, self.record = frame, frame.f, parts, record
        self.place = self.f.element(parts, PTR, number)
        self.kind, self.count = (frame.field(CALL_MAKER, record, name) for name in ("kind", "count"))
        self.children, self.known = (frame.field(CALL_MAKER, record, name, PTR) for name in ("children", "known"))

    def emit(self) -> None:
        """Write the code for one part."""
        self._choose(self.table())

    def _choose(self, table: Table) -> None:
        def written(write: Callable[[], None]) -> Callable[[], list[Value]]:
            def run() -> list[Value]:
                write()
                return []

            return run

        (kind, first), *rest = table
        if not rest:
            first()
            return
        is_it = self.f.compare("eq", self.kind, int_literal(kind))
        self.f.branch(is_it, written(first), written(lambda: self._choose(rest)))

    def begin(self, x: Value) -> Value:
        """Let what C code made be the part."""
        self.frame.need(x)
        self.f.store(x, self.place)
        return x

    def each(self, put: Callable[[Value, Value], None]) -> None:
        """For each child its number and a reference that is ours."""
        f = self.f

        def one(i: Value, _: list[Value]) -> list[Value]:
            child = f.load(f.element(self.children, I64, i), I64)
            put(i, self.frame.take(self.parts, child))
            return []

        f.loop(0, self.count, 1, [], one)

    def mapping(self, new: Value, set_item: str) -> None:
        """Give what was made the children, under the keys or names at `known`."""
        f = self.f
        whole = self.begin(new)

        def put(i: Value, x: Value) -> None:
            status = f.call(set_item, I32, [whole, self.frame.at(self.known, i), x])
            f.call("Py_DecRef", VOID, [x])
            self.frame.leave(f.compare("slt", status, literal(I32, 0)), self.frame.raised)

        self.each(put)

    def table(self) -> Table:
        """What makes the kinds; the last one is not compared."""
        return [
            (CALL_DICT, lambda: self.mapping(self.f.call("PyDict_New", PTR, []), "PyDict_SetItem")),
            (CALL_LIST, self._list),
            (CALL_TUPLE, self._tuple),
            (CALL_KNOWN, self._is_known),
            (CALL_BY, self._by),
        ]

    def _list(self) -> None:
        whole = self.begin(self.f.call("PyList_New", PTR, [self.count]))
        self.each(lambda i, x: self._put("PyList_SetItem", whole, i, x))

    def _tuple(self) -> None:
        whole = self.begin(self.f.call("PyTuple_New", PTR, [self.count]))
        self.each(lambda i, x: self._put("PyTuple_SetItem", whole, i, x))

    def _put(self, name: str, whole: Value, i: Value, x: Value) -> None:
        # Takes the reference. It cannot fail in a new container of this size.
        self.f.call(name, I32, [whole, i, x])

    def _is_known(self) -> None:
        self.f.call("Py_IncRef", VOID, [self.known])
        self.begin(self.known)

    def _by(self) -> None:
        f = self.f
        self._tuple()
        leaves = f.load(self.place, PTR)
        made = f.call("PyObject_Vectorcall", PTR, [self.known, self.place, int_literal(1), NULL])
        f.store(made, self.place)
        f.call("Py_DecRef", VOID, [leaves])
        self.frame.need(made)
