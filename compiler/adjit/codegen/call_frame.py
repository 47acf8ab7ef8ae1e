"""What the parts of `adjit_call` share: the words of an entry, references that a call holds, and the ways out of it.

A call ends at one of four places: `others` hands it on as it came, before anything of the entry was touched; `misfit`
does after the entry is free again; `failed` drops what was made first; `raised` returns NULL with the exception set.
Trees with guests are looked at and made by functions beside, which say that the call ends at `misfit` or `raised`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from adjit.codegen.guards import NULL
from adjit.codegen.llvm import I8, I64, PTR, VOID, Function, Module, Ty, Value, int_literal
from adjit_runtime.program import CALL_HEAD

# Offsets in CPython's and NumPy's objects; adjit_runtime.native compares them with live objects before it offers this.
TYPE, NUMBER = 8, 16
# The items of a tuple begin at 24, from CPython 3.14 on at 32: here lies the third item or the second, which are one.
TUPLE_WORDS = 40
ARRAY_DATA, ARRAY_NDIM, ARRAY_DIMS, ARRAY_DESCR, ARRAY_FLAGS = 16, 24, 32, 56, 64
DESCR_ORDER, DESCR_NUMBER = 26, 28
C_CONTIGUOUS_ALIGNED = 0x1 | 0x100


class Frame:
    """A function that has a part in a call: `words` are the entry's, at `holding` lies how many references are held."""

    def __init__(self, f: Function, words: Value, holding: Value) -> None:
        self.f, self.words, self.holding = f, words, holding
        self.misfit, self.raised = f._new_labels("misfit", "raised")

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

    # -- references ---------------------------------------------------------------------------------------------------

    def hold(self, x: Value) -> None:
        """Keep a reference, which is ours, until the call ends."""
        f = self.f
        held = f.load(self.holding, I64)
        f.store(x, f.element(self.head("held", PTR), PTR, held))
        f.store(f.add(held, 1), self.holding)

    def take(self, parts: Value, number: Value) -> Value:
        """A part, which is the caller's from now on."""
        f = self.f
        place = f.element(parts, PTR, number)
        x = f.load(place, PTR)
        f.store(NULL, place)
        return x


FITS, MISFITS, RAISES = range(3)


class Beside(Frame):
    """A function beside the call, `i64 name(ptr words, ptr holding, *params)`: FITS, MISFITS or RAISES."""

    def __init__(self, module: Module, name: str, params: Sequence[tuple[Ty, str]]) -> None:
        f = module.function(name, I64, [(PTR, "words"), (PTR, "holding"), *params], internal=True)
        words, holding, *self.params = f.params
        super().__init__(f, words, holding)

    def emit_ways_out(self) -> None:
        """End the function."""
        self.f.ret(int_literal(FITS))
        self.f._label(self.misfit)
        self.f.ret(int_literal(MISFITS))
        self.f._label(self.raised)
        self.f.ret(int_literal(RAISES))


class CallFrame(Frame):
    """One call under way. What it holds and has made is dropped wherever it ends."""

    def __init__(self, module: Module) -> None:
        f = module.function("adjit_call", PTR, [(PTR, "self"), (PTR, "args"), (I64, "count"), (PTR, "names")])
        self.self, self.args, self.count, self.names = f.params
        words = f.load(f.offset(f.load(f.offset(self.self, TUPLE_WORDS), PTR), ARRAY_DATA), PTR)
        super().__init__(f, words, f.alloca(I64, 1))
        self.busy = self.head("busy", PTR)
        f.store(int_literal(0), self.holding)
        self.others, self.failed = f._new_labels("others", "failed")

    def where_guests(self, name: str, arguments: Sequence[Value], otherwise: Callable[[], None]) -> None:
        """Call a function beside where the entry has guests, and end where that says so; else write code here."""
        f = self.f

        def beside() -> list[Value]:
            status = f.call(name, I64, [self.words, self.holding, *arguments])
            self.leave(f.compare("eq", status, int_literal(RAISES)), self.raised)
            self.give_up(f.compare("eq", status, int_literal(MISFITS)))
            return []

        def here() -> list[Value]:
            otherwise()
            return []

        f.branch(self.differs(self.head("guests"), int_literal(0)), beside, here)

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
