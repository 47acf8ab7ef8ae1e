"""What must be undone whatever happens, as machine code: no bytecode of Python, at which an interrupt can land, lies
between taking and giving back. Builtins of CPython that `adjit_runtime.guard` makes; one library for all programs.

    ptr adjit_exclusive(ptr self, ptr args, i64 count)    (address of a word, refuse, function, *arguments)
    ptr adjit_held(ptr self, ptr args, i64 count)         (before, after, function, *arguments)
    ptr adjit_zero(ptr self, ptr ignored)                 `self` is the address of a word, which becomes 0
    i64 adjit_exchange(ptr word, i64 value)               sets a word that is 0; what it was

`adjit_exclusive` calls the function while the word, 0 before, has the number of this thread, and `refuse()` where the
word is not 0. The word becomes 0 again if nobody gave it another value meanwhile. `adjit_held` calls `before()`, the
function and, however that ended, `after()`; none of it where `before` raised. Both give the function's result."""

from __future__ import annotations

from adjit.codegen.llvm import I64, PTR, VOID, Function, Module, Value, int_literal, literal

NULL = literal(PTR, 0)


def exchange(f: Function, word: Value, old: Value, new: Value) -> Value:
    """Set a word that is `old` to `new` in one atomic step; what it was."""
    pair = f._fresh("pair")
    f.line(f"{pair} = cmpxchg {word}, {old}, {new} seq_cst seq_cst")
    return f.define(I64, f"extractvalue {{ i64, i1 }} {pair}, 0")


def emit_guard_library(module: Module) -> None:
    """Write all four."""
    _emit_exclusive(module)
    _emit_held(module)
    _emit_zero(module)
    f = module.function("adjit_exchange", I64, [(PTR, "word"), (I64, "value")])
    word, value = f.params
    f.ret(exchange(f, word, int_literal(0), value))


def _emit_exclusive(module: Module) -> None:
    f = _builtin(module, "adjit_exclusive")
    word = f.call("PyLong_AsVoidPtr", PTR, [_argument(f, 0)])
    # pthread_self and its like: never 0, and in the child of a fork what it was.
    me = f.call("PyThread_get_thread_ident", I64, [])
    was = exchange(f, word, int_literal(0), me)
    taken, free = f._new_labels("taken", "free")
    f.line(f"br {f.compare('ne', was, int_literal(0))}, label %{taken}, label %{free}")
    f._label(taken)
    f.ret(_call(f, _argument(f, 1)))
    f._label(free)
    result = _call_rest(f)
    exchange(f, word, me, int_literal(0))
    f.ret(result)


def _emit_held(module: Module) -> None:
    f = _builtin(module, "adjit_held")
    begun = _call(f, _argument(f, 0))
    f.return_if(f.compare("eq", begun, NULL), NULL)
    f.call("Py_DecRef", VOID, [begun])
    result = _call_rest(f)
    error = [f.alloca(PTR, 1) for _ in range(3)]
    f.call("PyErr_Fetch", VOID, error)
    ended = _call(f, _argument(f, 1))

    def drop() -> None:
        # Py_DecRef takes NULL.
        for x in (result, *(f.load(place, PTR) for place in error)):
            f.call("Py_DecRef", VOID, [x])

    f.return_if(f.compare("eq", ended, NULL), NULL, drop)
    f.call("Py_DecRef", VOID, [ended])
    f.call("PyErr_Restore", VOID, [f.load(place, PTR) for place in error])
    f.ret(result)


def _emit_zero(module: Module) -> None:
    f = module.function("adjit_zero", PTR, [(PTR, "self"), (PTR, "ignored")])
    address = f.params[0]
    f.store(int_literal(0), f.call("PyLong_AsVoidPtr", PTR, [address]))
    f.call("Py_IncRef", VOID, [address])
    f.ret(address)


def _builtin(module: Module, name: str) -> Function:
    return module.function(name, PTR, [(PTR, "self"), (PTR, "args"), (I64, "count")])


def _argument(f: Function, number: int) -> Value:
    return f.load(f.element(f.params[1], PTR, int_literal(number)), PTR)


def _call(f: Function, function: Value) -> Value:
    """Call without arguments."""
    return f.call("PyObject_Vectorcall", PTR, [function, NULL, int_literal(0), NULL])


def _call_rest(f: Function) -> Value:
    """Call the third argument with those after it."""
    _, args, count = f.params
    rest = f.element(args, PTR, int_literal(3))
    return f.call("PyObject_Vectorcall", PTR, [_argument(f, 2), rest, f.sub(count, 3), NULL])
