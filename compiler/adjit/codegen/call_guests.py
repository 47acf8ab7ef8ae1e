"""Guests in the trees of a call: dataclasses, OrderedDicts and defaultdicts, as arguments and as results.

In functions beside `adjit_call`, whose code for plain trees keeps its registers so. What runs code of users, as a
property among the fields, may change anything meanwhile: a reference is held to each item. If it raises, so does the
call, unless the exception says that this is another tree: an attribute that is not there, a value without a hash."""

from __future__ import annotations

from adjit.codegen.call_frame import Beside
from adjit.codegen.call_trees import MAKERS, NODES, Maker, Node, Table, look_at_nodes, put_together
from adjit.codegen.guards import NULL
from adjit.codegen.llvm import I32, I64, PTR, VOID, Module, Value, int_literal, literal
from adjit_runtime.program import CALL_DEFAULT, CALL_INIT, CALL_MAKER, CALL_OBJECT, CALL_ORDERED


def emit_guests(module: Module) -> None:
    """Write both functions."""
    frame = Beside(module, NODES, [(PTR, "objects")])
    look_at_nodes(frame, frame.params[0], _NodeOrGuest)
    frame.emit_ways_out()
    frame = Beside(module, MAKERS, [])
    put_together(frame, _MakerOrGuest)
    frame.emit_ways_out()


class _NodeOrGuest(Node):
    def emit(self) -> None:
        """Write the code for one node, whatever it is."""
        plain = super().emit
        guest = self.f.compare("uge", self.kind, int_literal(CALL_ORDERED))

        def otherwise() -> list[Value]:
            plain()
            return []

        self.f.branch(guest, self._guest, otherwise)

    def _guest(self) -> list[Value]:
        f = self.f
        self.need_type()
        f.branch(
            self.is_kind(CALL_ORDERED),
            self._ordered,
            lambda: f.branch(self.is_kind(CALL_OBJECT), self._attributes, self._hash),
        )
        return []

    def _ordered(self) -> list[Value]:
        """By the order in the dict itself, which `PyDict_Next` walks, also in one that is changed meanwhile."""
        f = self.f
        keys = self.field("known", PTR)
        position, key, value = (f.alloca(ty, 1) for ty in (I64, PTR, PTR))
        f.store(int_literal(0), position)
        self.need_count("PyDict_Size")

        def item(i: Value) -> Value:
            found = f.call("PyDict_Next", I32, [self.x, position, key, value])
            self.frame.give_up(f.compare("eq", found, literal(I32, 0)))
            x = f.load(value, PTR)
            f.call("Py_IncRef", VOID, [x])
            return x

        def check(i: Value) -> None:
            ours, known = f.load(key, PTR), self.frame.at(keys, i)

            def compare() -> list[Value]:
                # The key's own code may drop it.
                f.call("Py_IncRef", VOID, [ours])
                found = self.equal(ours, known)
                f.call("Py_DecRef", VOID, [ours])
                self.need_equal(found)
                return []

            f.branch(self.frame.differs(ours, known), compare)

        self.number_items(item, check)
        return []

    def _attributes(self) -> list[Value]:
        f = self.f
        names = self.field("known", PTR)
        absent = self.frame.at(names, int_literal(0))

        def item(i: Value) -> Value:
            x = f.call("PyObject_GetAttr", PTR, [self.x, self.frame.at(names, f.add(i, 1))])
            self._refused(f.compare("eq", x, NULL), absent)
            return x

        self.number_items(item)
        return []

    def _hash(self) -> list[Value]:
        f = self.f
        found = f.call("PyObject_Hash", I64, [self.x])
        self._refused(f.compare("eq", found, int_literal(-1)), self.field("known", PTR))
        self.frame.give_up(self.frame.differs(found, self.field("first")))
        return []

    def _refused(self, failed: Value, expected: Value) -> None:
        """Where something failed, give up if the exception is the one that is expected, and let it go on else."""
        f = self.f

        def handle() -> list[Value]:
            matches = f.call("PyErr_ExceptionMatches", I32, [expected])
            self.frame.leave(f.compare("eq", matches, literal(I32, 0)), self.frame.raised)
            f.call("PyErr_Clear", VOID, [])
            return []

        f.branch(failed, handle)
        self.frame.give_up(failed)


class _MakerOrGuest(Maker):
    def table(self) -> Table:
        """What makes guests, too."""
        f = self.f
        return [
            (CALL_ORDERED, lambda: self.mapping(f.call("PyODict_New", PTR, []), "PyODict_SetItem")),
            (CALL_DEFAULT, lambda: self.mapping(self._made(), "PyDict_SetItem")),
            # What object.__setattr__ is.
            (CALL_OBJECT, lambda: self.mapping(self._made(), "PyObject_GenericSetAttr")),
            (CALL_INIT, self._init),
            *super().table(),
        ]

    def _field(self, name: str) -> Value:
        return self.frame.field(CALL_MAKER, self.record, name, PTR)

    def _made(self) -> Value:
        of = self.f.element(self.record, I64, CALL_MAKER.index("of"))
        return self.f.call("PyObject_Vectorcall", PTR, [self._field("make"), of, int_literal(1), NULL])

    def _init(self) -> None:
        f = self.f

        def put(_: Value, keywords: Value) -> None:
            made = f.call("PyObject_Call", PTR, [self._field("make"), self._field("of"), keywords])
            f.call("Py_DecRef", VOID, [keywords])
            self.begin(made)

        self.each(put)
