"""Every text with which tracing says no, and how an error shows the user's place.

    model.py:41: matmul: inner dimensions differ, f32[128,784] @ f32[512,10]: 784 is not 512
        h = x @ w + b
            ^^^^^

An error that carries a place has it as `error.loc`; `relocated` gives one to an error that has none.

A refusal says that a trace cannot do what NumPy can. It is noted in the traces under way: where the traced function
catches it (`try: np.linalg.inv(a)`, `except Exception: ...`), the graph would hold the other path than the one that the
plain function takes, so it is raised again when the trace ends. What NumPy raises in the same situation (ShapeError, an
index outside its axis, the truth of several elements, the length of a scalar) is noted nowhere: a function that tries
and catches it takes the same path as the plain one.
"""

from __future__ import annotations

import dis
import linecache
from collections.abc import Sequence
from types import BuiltinFunctionType, FrameType, FunctionType
from typing import TypeVar

import numpy as np

from adjit.ir.node import Loc, Node
from adjit.ir.types import COMPILED_DTYPES, Array
from adjit.trace import callee
from adjit.trace.context import Trace, current_trace
from adjit.trace.locate import locate, raised_at, scipy_functions, user_frame
from adjit_runtime import checks
from adjit_runtime.errors import AdjitError, DTypeError, IndexOutOfRange, ShapeError, TraceError

E = TypeVar("E", bound=AdjitError)

_NB_SUBSCR = 26
"""The operand of BINARY_OP that means a subscript, from Python 3.14 on."""


def show(loc: Loc) -> str:
    """The line of source with carets under the expression; empty where the source is not at hand."""
    source = linecache.getline(loc.file, loc.line).rstrip("\n")
    text = source.strip()
    if not text:
        return ""
    shown = f"\n    {text}"
    if loc.column is None:
        return shown
    # Columns count bytes of UTF-8; an expression of several lines is marked to the end of its first one.
    raw = source.rstrip().encode()
    start = len(raw[: loc.column].decode(errors="replace")) - (len(source) - len(source.lstrip()))
    width = len(raw[loc.column : loc.end_column].decode(errors="replace"))
    if start < 0 or width <= 0:
        return shown
    return f"{shown}\n    {' ' * start}{'^' * width}"


def expression(loc: Loc | None) -> str:
    """The source of the expression at a place; empty where it is not known."""
    if loc is None or loc.column is None or loc.end_column is None:
        return ""
    source = linecache.getline(loc.file, loc.line)
    return source.encode()[loc.column : loc.end_column].decode(errors="replace").strip()


def located(kind: type[E], message: str, loc: Loc | None = None) -> E:
    """An error of that kind whose text shows the user's place: `loc`, or where the user's code is now."""
    loc = loc or locate()
    error = kind(message if loc is None else f"{loc}: {message}{show(loc)}")
    error.__dict__["loc"] = loc
    return error


def is_located(error: BaseException) -> bool:
    """Whether the text of an error shows the user's place."""
    return "loc" in error.__dict__


def relocated(error: E) -> E:
    """The same error with the user's place in its text."""
    return error if is_located(error) else located(type(error), str(error), raised_at(error))


def noted(error: E, trace: Trace | None = None) -> E:
    """The error, as a refusal of the traces under way, or of `trace` and those around it."""
    at = trace or current_trace()
    while at is not None:
        at.refusal = at.refusal or error
        at = at.parent
    return error


def swallowed(error: AdjitError) -> AdjitError:
    """A refusal that the traced function caught, as it is raised when the trace ends."""
    error.add_note(
        "The traced function caught this error and went on; the plain function would not have met it, so what was "
        "traced is not what the plain function computes."
    )
    return error


def trace_error(message: str, *, numpy_too: bool = False) -> TraceError:
    """Something that cannot be traced; the message says what to write instead. `numpy_too`: NumPy raises here as well,
    so it is no refusal."""
    error = located(TraceError, message)
    return error if numpy_too else noted(error)


def shape_error(message: str) -> ShapeError:
    """Shapes or axes that do not fit."""
    return located(ShapeError, message)


def broadcast(what: str, operands: Sequence[object], difference: str) -> ShapeError:
    """Types or shapes without a common shape."""
    shown = [str(x) if isinstance(x, Array) else f"shape {x}" for x in operands]
    listed = f"{', '.join(shown[:-1])} and {shown[-1]}"
    return shape_error(f"{what}: {listed} do not fit each other: {difference}, counted from the last axis")


def dtype_error(message: str) -> DTypeError:
    """A dtype that does not fit, in NumPy as well."""
    return located(DTypeError, message)


def no_code(message: str) -> DTypeError:
    """A dtype that NumPy has, and that no machine code exists for."""
    return noted(located(DTypeError, message))


def index_error(message: str) -> IndexOutOfRange:
    """A static index outside its axis."""
    return located(IndexOutOfRange, message)


def ours(error: BaseException) -> AdjitError | None:
    """The first error of the family in the chain of causes of `error`."""
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        if isinstance(at, AdjitError):
            return at
        seen.add(id(at))
        at = at.__cause__ or at.__context__
    return None


def _operation(frame: FrameType | None) -> str:
    """What the user's code does at its current instruction: "read", "write" (subscripts), "call", or ""."""
    if frame is None:
        return ""
    raw, at = frame.f_code.co_code, frame.f_lasti
    name = dis.opname[raw[at]]
    if name in {"BINARY_SUBSCR", "BINARY_SLICE"} or (name == "BINARY_OP" and raw[at + 1] == _NB_SUBSCR):
        return "read"
    if name in {"STORE_SUBSCR", "STORE_SLICE"}:
        return "write"
    return "call" if name.startswith("CALL") else ""


def _origin(node: Node) -> str:
    """Which expression made a value, and where."""
    if node.loc is None:
        return ""
    text = expression(node.loc)
    return f", made by `{text}` at {node.loc}" if text else f", made at {node.loc}"


def _constant_subscript() -> TraceError | None:
    doing = _operation(user_frame())
    if doing == "read":
        return trace_error(
            "a plain array is indexed by a traced value, which NumPy cannot do: write adjit.asarray(array)[index]"
        )
    if doing == "write":
        return trace_error(
            "a traced value is written into a plain array, or at a traced position of one; it was made outside of the "
            "traced function, or where a trace does not see it, so its memory is not the compiled function's: write "
            "a = np.array(a) inside the function before, or build the result with np.stack, np.concatenate or np.where"
        )
    return None


def _statement() -> str:
    """The first word of the line where the user's code is."""
    loc = locate()
    words = linecache.getline(loc.file, loc.line).split() if loc is not None else []
    return words[0] if words else ""


_REWRITTEN = "compile with adjit.jit(f, control_flow=True), for which if, while and for are branches and loops"


def _instead_of_truth(node: Node) -> str:
    statement = _statement()
    if statement == "while":
        return f"write adjit.while_loop(cond, body, init), {_REWRITTEN}, or leave the loop outside of the function"
    if statement == "assert":
        return "check the arguments before the call or the results after it"
    if node.op.name == "input" and node.shape == () and node.dtype.kind in "bi":
        return f"a flag is a static argument{_static(node)}"
    return (
        "write np.where(condition, a, b), adjit.cond(condition, if_true, if_false), np.logical_and / np.logical_or / "
        f"np.logical_not, np.maximum; or {_REWRITTEN}"
    )


def _static(node: Node) -> str:
    """How the argument that a value is becomes a static one; empty where it is none."""
    if node.op.name != "input":
        return ""
    name = str(node.attrs["name"])
    root = name.partition(".")[0]
    if root == name:
        return f": static_argnames=({name!r},)"
    return (
        f", and {name} is a part of a traced one: give it as an argument of its own, or make all of {root} static, for "
        f"which it must have a hash, as a tuple and a frozen dataclass have: static_argnames=({root!r},)"
    )


def truth(node: Node) -> TraceError:
    """`if tracer:`, `and`, `not`, `max`, `in`."""
    return trace_error(
        f"the truth of a traced {node.type} is asked for (if, while, and, or, not, in, max, sorted){_origin(node)}; "
        f"its value is not known while the function is traced: {_instead_of_truth(node)}",
        numpy_too=node.array_type.size > 1,
    )


def number(node: Node, kind: str) -> TraceError:
    """`float(tracer)`, `math.exp(tracer)`, `'%f' % tracer`."""
    if kind == "list":
        return trace_error(
            f"the numbers of a traced {node.type}{_origin(node)} are asked for; they are not known while the function "
            "is traced: iterate over x or write list(x), whose elements are traced, too"
        )
    found = _constant_subscript() or _of_math(node)
    return found or trace_error(
        f"a Python {kind} is made of a traced {node.type}{_origin(node)}; its value is not known while the function is "
        f"traced: use the function of NumPy in place of math's (np.exp, np.sqrt), x.astype in place of {kind}(x), and "
        "format or print the results of the compiled function",
        numpy_too=node.array_type.size > 1,
    )


def _of_math(node: Node) -> TraceError | None:
    """A function of `math` that was imported alone."""
    frame = user_frame()
    path, target = (None, None) if frame is None else (callee.path(frame), callee.called(frame))
    if path is None or not isinstance(target, BuiltinFunctionType) or target.__module__ != "math":
        return None
    name = target.__name__
    return trace_error(
        f"`{'.'.join(path)}` was taken out of math by its name (as from math import {name} does), so that a trace does "
        f"not see its calls: write import math, and math.{name}(...)",
        numpy_too=node.array_type.size > 1,
    )


def index(node: Node) -> TraceError:
    """`range(tracer)`, `np.zeros(tracer)`, `constant[tracer]`, `[1] * tracer`."""
    loop = f"; for a loop write adjit.fori_loop(0, n, body, init), or {_REWRITTEN}" if _statement() == "for" else ""
    return _constant_subscript() or trace_error(
        f"a size, an axis or a count is a traced {node.type}{_origin(node)}; shapes are fixed while the function is "
        f"traced: take it from x.shape or make it a static argument{_static(node)}{loop}; to index a plain array write "
        "adjit.asarray(array)[index]",
        numpy_too=node.dtype.kind == "f",
    )


def slice_bound(node: Node) -> TraceError:
    """`x[:n]` with a traced n."""
    return trace_error(
        f"a bound of a slice is a traced {node.type}{_origin(node)}; shapes are fixed while the function is traced: "
        "write x[start + np.arange(length)] for a window, np.where(np.arange(n) < stop, x, 0) for a part, or make it a "
        f"static argument{_static(node)}",
        numpy_too=node.dtype.kind == "f",
    )


_OURS = frozenset({"logsumexp", "softmax", "log_softmax"})
"""Functions of SciPy that do not dispatch and that adjit.nn has."""


def _scipy() -> TraceError | None:
    """A function of SciPy that is written in Python; its ufuncs dispatch."""
    names = scipy_functions()
    if not names:
        return None
    known = next((name for name in names if name in _OURS), None)
    instead = f"adjit.nn.{known}" if known else "it with functions of NumPy"
    return trace_error(
        f"SciPy's {known or names[-1]} makes plain arrays of its arguments, so it cannot be traced: write {instead}"
    )


def _by_name() -> TraceError | None:
    """A call of a function or a type of NumPy that a trace does not see."""
    frame = user_frame()
    path, target = (None, None) if frame is None else (callee.path(frame), callee.called(frame))
    if path is None or target is None:
        return None
    if isinstance(target, type) and issubclass(target, np.generic):
        return _scalar(".".join(path), target)
    name = getattr(target, "__name__", "")
    if getattr(target, "__objclass__", None) is np.ndarray:
        instead = {"dot": "plain @ x"}.get(name, f"np.{name}(plain, x)")
        return trace_error(
            f"{'.'.join(path)} is a method of a plain array, which cannot take a traced one: write {instead}"
        )
    if len(path) > 1 and isinstance(target, type | FunctionType) and target.__module__.startswith("numpy"):
        return trace_error(
            f"{'.'.join(path)} makes plain arrays of its arguments, so it cannot be traced: write it with functions "
            "that docs/functions.md has under Works"
        )
    if len(path) > 1 or isinstance(target, np.ufunc) or not hasattr(np, name) or getattr(np, name) != target:
        return None
    return trace_error(
        f"`{path[0]}` was taken out of NumPy by its name (as from numpy import {name} does), so that a trace does not "
        f"see its calls: write import numpy as np, and np.{name}(...)"
    )


def _scalar(path: str, kind: type[np.generic]) -> TraceError:
    """A call of a class of NumPy that makes a plain scalar of a traced value."""
    if not issubclass(kind, np.bool_ | np.number) or np.dtype(kind) in COMPILED_DTYPES:
        return trace_error(f"{path} makes a plain scalar of a traced value: write x.astype(np.{kind.__name__})")
    wide = "float32" if issubclass(kind, np.inexact) else "int64"
    return trace_error(f"{path} has no machine code: write np.{wide}(x)")


def as_array(node: Node) -> TraceError:
    """`np.asarray(tracer)`, `np.array([tracer, ...])`, nested lists."""
    return (
        _constant_subscript()
        or _scipy()
        or _by_name()
        or trace_error(
            f"a plain NumPy array is made of a traced {node.type}{_origin(node)}; its values are not known while the "
            "function is traced, and a trace sees no calls from code in C: write np.array([...]) or np.stack([...]) "
            "in the function itself to make an array, adjit.asarray(array)[i] to index a plain array, and "
            "x.astype(np.float32) to convert"
        )
    )


def iteration(node: Node) -> TraceError:
    """`for _ in scalar`, unpacking a scalar."""
    return trace_error(
        f"iteration over a traced scalar {node.type}{_origin(node)}; a value that was meant as a length is not known "
        "while the function is traced: loop over range(x.shape[0])",
        numpy_too=True,
    )


def ended(name: str, made: Loc | None) -> TraceError:
    """Use of a tracer after its trace."""
    where = f", made at {made}," if made is not None else ""
    return trace_error(
        f"a traced value{where} is used after the trace of `{name}` has ended (it was kept in a global, an attribute "
        "or a closure): return it from the function instead"
    )


def foreign(trace: Trace) -> TraceError:
    """A tracer of a trace that is used in another thread."""
    error = trace_error("a traced value is used outside the trace that made it, in another thread: trace in one thread")
    return noted(error, trace)


def hashing(node: Node) -> TraceError:
    """A tracer as a key, in a set, or as an argument of a cached function."""
    return trace_error(
        f"a traced {node.type} is hashed (a key of a dict, a member of a set, an argument of a cached function); its "
        "value is not known while the function is traced: use a name or id(x) as the key",
        numpy_too=bool(node.shape),
    )


def pickling(node: Node) -> TraceError:
    """pickle, joblib, multiprocessing."""
    return trace_error(
        f"a traced {node.type} is pickled; its value is not known while the function is traced: return it and pickle "
        "the result"
    )


def formatting(node: Node) -> TraceError:
    """f"{tracer:.3f}"."""
    return trace_error(
        f"a traced {node.type} is formatted as a number{_origin(node)}; its value is not known while the function is "
        "traced: format the results of the compiled function",
        numpy_too=bool(node.shape),
    )


def identity(other: object) -> TraceError:
    """`x == None` and comparisons with what is no number."""
    if other is None:
        return trace_error(
            "a traced value is compared with None, which NumPy does element by element: write `x is None`"
        )
    return trace_error(f"a traced value is compared with {checks.shown(other)}, which is no number")


def plain_out(name: str) -> TraceError:
    """`out=` or `+=` into a plain array."""
    return trace_error(
        f"{name}: the result would be written into a plain array (out=, or an operator such as +=), which lies outside "
        "the compiled function: write a = a + x, or a = np.array(a) inside the function before"
    )


def list_repeat() -> TraceError:
    """`[1] * k` with an integer tracer."""
    return trace_error(
        "a list is multiplied by a traced integer; NumPy would repeat it, and its length must be known while the "
        "function is traced: write np.array(list) * k for the product"
    )


def argument_write(name: str) -> TraceError:
    """In-place change of an argument of the traced function, or of a closed-over value."""
    return trace_error(
        f"{name} would be changed in place; the compiled function works on its own memory, so the caller's array would "
        "not change: write x = x + v, or x = x.copy() before the change"
    )


def write_in_part(part: str) -> TraceError:
    """In-place change, in the body of a loop or in a branch, of a known array that was made outside of it."""
    if part == "branch":
        return trace_error(
            "an array that was made outside of the branch would be changed in place in it, which is traced whether it "
            "runs or not: return the array that is wanted from both sides"
        )
    return trace_error(
        "an array that was made outside of the loop would be changed in place in its body, which is traced once and "
        "runs in each turn: carry the array (a part of init, returned by the body), and change what is carried"
    )


def read_only(what: str) -> TraceError:
    """A write through a read-only view."""
    return trace_error(f"{what} is a read-only view: write x = x.copy() before the change", numpy_too=True)


def maybe_write(made: Loc | None) -> TraceError:
    """A write through what may be a view or a copy."""
    where = f" made at {made}" if made is not None else ""
    return trace_error(
        f"this array{where} is a view or a copy, depending on a memory order that the trace does not know; writing "
        "into it would change another array, or not: take a .copy() there, or write through the original array"
        + (show(made) if made is not None else "")
    )


def maybe_read(made: Loc | None, written: Loc | None) -> TraceError:
    """A read of what may be a view, after the array behind it was written."""
    where = f" made at {made}" if made is not None else ""
    when = f" at {written}" if written is not None else ""
    return trace_error(
        f"this array{where} is a view or a copy, depending on a memory order that the trace does not know, and the "
        f"array behind it was changed{when}; take a .copy() before the change, or make it anew after it"
        + (show(made) if made is not None else "")
        + (show(written) if written is not None else "")
    )


def mask(node: Node) -> TraceError:
    """`x[x > 0]` with a traced mask; not noted yet, as the elements may never be asked for."""
    return located(
        TraceError,
        f"an array is indexed by a traced boolean mask {node.type}{_origin(node)}, so the shape of the result would "
        "depend on values: write np.where(mask, x, 0), np.sum(x, where=mask) and the like, np.sum(mask) for their "
        "number, and for x[mask] = x[mask] * a the select x = np.where(mask, x * a, x)",
    )


def attribute(name: str, reason: str) -> TraceError:
    """An attribute of ndarray that a tracer cannot have."""
    return trace_error(f"x.{name} of a traced array is not supported: {reason}")


def function(name: str, reason: str = "") -> TraceError:
    """A function of NumPy or SciPy that the table does not have."""
    return trace_error(f"{name} is not supported on traced arrays" + (f": {reason}" if reason else ""))


def function_argument(name: str, argument: str) -> TraceError:
    """An argument that a function of the table does not take."""
    return trace_error(f"{name}: the argument {argument!r} is not supported on traced arrays")
