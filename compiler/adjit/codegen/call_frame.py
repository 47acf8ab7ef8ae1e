"""What the parts of `adjit_call` share: the words of an entry, references that a call holds, and the ways out of it.

A call ends at one of four places: `others` hands it on as it came, before anything of the entry was touched; `misfit`
does after the entry is free again; `failed` drops what was made first; `raised` returns NULL with the exception set."""

from __future__ import annotations

from collections.abc import Sequence

from adjit.codegen.guards import NULL
from adjit.codegen.llvm import I8, I64, PTR, VOID, Module, Ty, Value, int_literal
from adjit_runtime.program import CALL_HEAD

# Offsets in CPython's and NumPy's objects; adjit_runtime.native compares them with live objects before it offers this.
TYPE, NUMBER = 8, 16
# The items of a tuple begin at 24, from CPython 3.14 on at 32: here lies the third item or the second, which are one.
TUPLE_WORDS = 40
ARRAY_DATA, ARRAY_NDIM, ARRAY_DIMS, ARRAY_DESCR, ARRAY_FLAGS = 16, 24, 32, 56, 64
DESCR_ORDER, DESCR_NUMBER = 26, 28
C_CONTIGUOUS_ALIGNED = 0x1 | 0x100


class Frame:
    """One call under way. What it holds and has made is dropped wherever it ends."""

    def __init__(self, module: Module) -> None:
        self.f = f = module.function("adjit_call", PTR, [(PTR, "self"), (PTR, "args"), (I64, "count"), (PTR, "names")])
        self.self, self.args, self.count, self.names = f.params
        self.words = f.load(f.offset(f.load(f.offset(self.self, TUPLE_WORDS), PTR), ARRAY_DATA), PTR)
        self.busy = self.head("busy", PTR)
        self.holding = f.alloca(I64, 1)
        f.store(int_literal(0), self.holding)
        self.others, self.misfit, self.failed, self.raised = f._new_labels("others", "misfit", "failed", "raised")

    # -- words --------------------------------------------------------------------------------------------------------

    def head(self, name: str, ty: Ty = I64) -> Value:
        """A word of the entry."""
        return self.f.load(self.f.element(self.words, I64, CALL_HEAD.index(name)), ty)

    def field(self, fields: Sequence[str], record: Value, name: str, ty: Ty = I64) -> Value:
        """A word of a record."""
        return self.f.load(self.f.element(record, I64, fields.index(name)), ty)

    def at(self, array: Value, number: Value) -> Value:
        """An address in an array of them."""
        return self.f.load(self.f.element(array, PTR, number), PTR)

    def type_of(self, x: Value) -> Value:
        """The class of an object."""
        return self.f.load(self.f.offset(x, TYPE), PTR)

    def byte_at(self, x: Value, offset: int) -> Value:
        """A byte of an object."""
        return self.f.load(self.f.offset(x, offset), I8)

    # -- ways out -----------------------------------------------------------------------------------------------------

    def differs(self, a: Value, b: Value) -> Value:
        """Whether two words differ."""
        return self.f.compare("ne", a, b)

    def leave(self, condition: Value, where: str) -> None:
        """Go to one of the ways out where `condition` holds."""
        (stay,) = self.f._new_labels("stay")
        self.f.line(f"br {condition}, label %{where}, label %{stay}")
        self.f._label(stay)

    def give_up(self, condition: Value) -> None:
        """Where `condition` holds, let others in and hand the call on: an argument does not fit."""
        self.leave(condition, self.misfit)

    def need(self, x: Value) -> None:
        """What C code gave is no object: it has raised."""
        self.leave(self.f.compare("eq", x, NULL), self.raised)

    def emit_ways_out(self) -> None:
        """Write the code of the four."""
        f = self.f
        f._label(self.raised)
        self.drop_parts()
        self.let_in()
        f.ret(NULL)
        f._label(self.failed)
        self.drop_parts()
        f.line(f"br label %{self.misfit}")
        f._label(self.misfit)
        self.let_in()
        f.line(f"br label %{self.others}")
        f._label(self.others)
        path = self.head("slow", PTR)
        # A reference of our own: another thread may set another path meanwhile.
        f.call("Py_IncRef", VOID, [path])
        result = f.call("PyObject_Vectorcall", PTR, [path, self.args, self.count, self.names])
        f.call("Py_DecRef", VOID, [path])
        f.ret(result)

    # -- references ---------------------------------------------------------------------------------------------------

    def hold(self, x: Value) -> None:
        """Keep a reference, which is ours, until the call ends."""
        f = self.f
        held = f.load(self.holding, I64)
        f.store(x, f.element(self.head("held", PTR), PTR, held))
        f.store(f.add(held, 1), self.holding)

    def let_in(self) -> None:
        """Drop what is held; then the words and the memory of the entry may be written by another call."""
        f = self.f
        held = f.load(self.holding, I64)

        def release() -> list[Value]:
            memory = self.head("held", PTR)
            f.loop(0, held, 1, [], lambda i, _: self._drop(self.at(memory, i)))
            return []

        f.branch(self.differs(held, int_literal(0)), release)
        f.store(int_literal(0), self.busy)

    def _drop(self, x: Value) -> list[Value]:
        self.f.call("Py_DecRef", VOID, [x])
        return []

    def drop_parts(self) -> None:
        """Drop the results, as far as they were made."""
        f = self.f
        parts = self.head("parts", PTR)

        def one(i: Value, _: list[Value]) -> list[Value]:
            # Py_DecRef takes NULL.
            self._drop(self.take(parts, i))
            return []

        f.loop(0, f.add(self.head("results"), self.head("makers")), 1, [], one)

    def take(self, parts: Value, number: Value) -> Value:
        """A part, which is the caller's from now on."""
        f = self.f
        place = f.element(parts, PTR, number)
        x = f.load(place, PTR)
        f.store(NULL, place)
        return x
