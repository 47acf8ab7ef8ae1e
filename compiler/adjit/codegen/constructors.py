"""What a class calls when it is called, so that one of our values as its argument comes to us: `float(x)`.

    ptr adjit_construct(ptr class, ptr args, i64 flags, ptr names)    the vectorcall function of several classes
    ptr adjit_constructors()                                          the address of the words that it reads

Where the only argument is of one of our classes, `convert(class, argument)` is called, and NotImplemented means that it
has no answer. For that and for all other calls the class does what it did before: `function`, which it had in its slot,
or what type.__call__ is where it had none. Words: the `HEAD`, and a `RECORD` for each class, the first free one 0."""

from __future__ import annotations

from adjit.codegen.call_frame import TYPE
from adjit.codegen.guards import NULL
from adjit.codegen.llvm import I32, I64, PTR, VOID, Function, Module, Value, int_literal, literal
from adjit_runtime.program import CONSTRUCTOR_HEAD as HEAD
from adjit_runtime.program import CONSTRUCTOR_RECORD as RECORD
from adjit_runtime.program import MOST_CONSTRUCTORS

_WORDS = Value(PTR, "@words")
_COUNT = 2**63 - 1
"""The bits of PY_VECTORCALL's flags that are the number of positional arguments."""


def emit_constructors_library(module: Module) -> None:
    """Write both."""
    words = len(HEAD) + (MOST_CONSTRUCTORS + 1) * len(RECORD)
    module.globals["words"] = f"@words = internal global [{words} x i64] zeroinitializer, align 64"
    _emit_convert(module)
    _emit_as_before(module)
    _emit_construct(module)
    module.function("adjit_constructors", PTR, []).ret(_WORDS)


def _word(f: Function, name: str) -> Value:
    return f.load(f.element(_WORDS, I64, HEAD.index(name)), PTR)


def _vectorcall(module: Module, name: str, *, internal: bool) -> Function:
    params = [(PTR, "class"), (PTR, "args"), (I64, "flags"), (PTR, "names")]
    return module.function(name, PTR, params, internal=internal)


def _go_on(f: Function, function: str) -> None:
    """End with a call of the same signature, which takes no place on the stack."""
    f.ret(f.define(PTR, f"musttail call ptr {function}({', '.join(map(str, f.params))})"))


def _emit_construct(module: Module) -> None:
    f = _vectorcall(module, "adjit_construct", internal=False)
    kind, args, flags, names = f.params
    look, ask, declined, answered, otherwise = f._new_labels("look", "ask", "declined", "answered", "otherwise")
    count = f.binary("and", flags, int_literal(_COUNT))
    alone = f.binary("and", f.compare("eq", count, int_literal(1)), f.compare("eq", names, NULL))
    f.line(f"br {alone}, label %{look}, label %{otherwise}")
    f._label(look)
    x = f.load(args, PTR)
    found = f.load(f.offset(x, TYPE), PTR)
    first, *others = (f.compare("eq", found, _word(f, name)) for name in HEAD if name.startswith("class"))
    for other in others:
        first = f.binary("or", first, other)
    f.line(f"br {first}, label %{ask}, label %{otherwise}")
    f._label(ask)
    answer = f.call("adjit_convert", PTR, [kind, x])
    is_declined = f.compare("eq", answer, _word(f, "not_implemented"))
    f.line(f"br {is_declined}, label %{declined}, label %{answered}")
    f._label(answered)
    f.ret(answer)
    f._label(declined)
    f.call("Py_DecRef", VOID, [answer])
    f.line(f"br label %{otherwise}")
    f._label(otherwise)
    at = f.element(_WORDS, I64, len(HEAD))
    (at,) = f.while_loop([at], lambda at: _is_other(f, at[0], kind), lambda at: [f.element(at[0], I64, len(RECORD))])
    function = f.load(f.element(at, I64, RECORD.index("function")), PTR)
    had, none = f._new_labels("had", "none")
    f.line(f"br {f.compare('ne', function, NULL)}, label %{had}, label %{none}")
    f._label(had)
    _go_on(f, function.ref)
    f._label(none)
    _go_on(f, "@adjit_as_before")


def _is_other(f: Function, at: Value, kind: Value) -> Value:
    """Whether a record is one, and of another class."""
    known = f.load(f.element(at, I64, RECORD.index("class")), PTR)
    return f.binary("and", f.compare("ne", known, kind), f.compare("ne", known, NULL))


def _emit_convert(module: Module) -> None:
    f = module.function("adjit_convert", PTR, [(PTR, "class"), (PTR, "x")], internal=True)
    args = f.alloca(PTR, 2, align=8)
    for number, x in enumerate(f.params):
        f.store(x, f.element(args, PTR, number))
    f.ret(f.call("PyObject_Vectorcall", PTR, [_word(f, "convert"), args, int_literal(2), NULL]))


def _emit_as_before(module: Module) -> None:
    """What CPython does for a class without a vectorcall function: a tuple, a dict, and type.__call__."""
    f = _vectorcall(module, "adjit_as_before", internal=True)
    kind, args, flags, names = f.params
    count = f.binary("and", flags, int_literal(_COUNT))
    items = f.call("PyTuple_New", PTR, [count])
    f.return_if(f.compare("eq", items, NULL), NULL)

    def give(i: Value, _: list[Value]) -> list[Value]:
        x = f.load(f.element(args, PTR, i), PTR)
        f.call("Py_IncRef", VOID, [x])
        # Takes over the reference.
        f.call("PyTuple_SetItem", I32, [items, i, x])
        return []

    f.loop(int_literal(0), count, 1, [], give)
    named = f.compare("ne", names, NULL)
    (keywords,) = f.branch(named, lambda: [_dict(f, names, f.element(args, PTR, count), items)], lambda: [NULL])
    result = f.call_pointer(_word(f, "type_call"), PTR, [kind, items, keywords])
    _drop(f, items, keywords)
    f.ret(result)


def _dict(f: Function, names: Value, values: Value, items: Value) -> Value:
    """A dict of keywords; leaves where there is no memory."""
    made = f.call("PyDict_New", PTR, [])
    f.return_if(f.compare("eq", made, NULL), NULL, lambda: _drop(f, items))

    def enter(i: Value, _: list[Value]) -> list[Value]:
        name, x = f.call("PyTuple_GetItem", PTR, [names, i]), f.load(f.element(values, PTR, i), PTR)
        failed = f.compare("ne", f.call("PyDict_SetItem", I32, [made, name, x]), literal(I32, 0))
        f.return_if(failed, NULL, lambda: _drop(f, items, made))
        return []

    f.loop(int_literal(0), f.call("PyTuple_Size", I64, [names]), 1, [], enter)
    return made


def _drop(f: Function, *objects: Value) -> None:
    for x in objects:
        # Takes NULL.
        f.call("Py_DecRef", VOID, [x])
