"""What a tracer cannot do has an error of its own, with the user's file and line, that says what to write instead."""

from __future__ import annotations

import copy
import math
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjit.trace
from adjit.ir.types import F32, F64, I64, Array
from adjit.trace import table
from adjit.trace.tracer import Tracer
from adjit_runtime.errors import AdjitError, ShapeError, TraceError
from tests.trace.check import floats, run, same, trace_of

PLAIN = np.zeros(5)
V = Array(F32, (3,))
S = Array(F64)
N = Array(I64)

REFUSALS: list[tuple[Callable[..., Any], Array, str]] = [
    (lambda x: 1 if x.sum() > 0 else 2, V, r"made by `x\.sum\(\) > 0` at test_refusals\.py.*np\.where"),
    (lambda x: x and 1, V, r"np\.logical_and"),
    (lambda x: not x, V, r"np\.logical_not"),
    (lambda x: 0 < x < 1, S, r"np\.logical_and"),
    (lambda x: sorted(x), V, r"truth"),
    (lambda x: 1 in x, V, r"truth"),
    (lambda x: int(x), S, r"a Python int is made of a traced f64\[\].*x\.astype"),
    (lambda x: complex(x), S, r"a Python complex is made"),
    (lambda x: "%f" % x, S, r"a Python float"),  # noqa: UP031
    (lambda x: f"{x:.3f}", S, r"formatted"),
    (lambda x: x.item(), S, r"a Python float"),
    (lambda x: x.tolist(), V, r"a Python list"),
    (lambda x: list(range(x)), N, r"shapes are fixed"),
    (lambda x: np.zeros(x), N, r"shapes are fixed"),
    (lambda x: [1] * x, N, r"a list is multiplied by a traced integer"),
    (lambda x: x.reshape(x.sum().astype(np.int64)), V, r"shapes are fixed"),
    (lambda x: x.sum(axis=x.sum().astype(np.int64)), V, r"shapes are fixed"),
    (lambda x: np.float16(x), S, r"np\.float16 has no machine code.*np\.float32\(x\)"),
    (lambda x: np.uint32(x), N, r"np\.uint32 has no machine code.*np\.int64\(x\)"),
    (lambda x: np.arange(x), S, r"np\.stack|shapes are fixed|a Python float"),
    (lambda x: PLAIN[x], N, r"adjit\.asarray\(array\)\[index\]"),
    (lambda x: PLAIN[x], Array(I64, (2,)), r"adjit\.asarray\(array\)\[index\]"),
    (lambda x: PLAIN[:3] + (PLAIN.__setitem__(0, x) or 0), S, r"a Python float|plain array"),
    (lambda x: np.add(x, 1, out=PLAIN[:3]), V, r"np\.add: the result would be written into a plain array"),
    (lambda x: list(x), S, r"iteration over a traced scalar"),
    (lambda x: sum(x), S, r"iteration over a traced scalar"),
    (lambda x: len(x), S, r"iteration over a traced scalar"),
    (lambda x: {x: 1}, V, r"is hashed"),
    (lambda x: {x}, S, r"is hashed"),
    (lambda x: hash(x), S, r"is hashed"),
    (lambda x: pickle.dumps(x), V, r"is pickled"),
    (lambda x: x == None, V, r"x is None"),  # noqa: E711
    (lambda x: x != None, V, r"x is None"),  # noqa: E711
    (lambda x: x == "a", V, r"is no number"),
    (lambda x: x.flags, V, r"x\.flags of a traced array is not supported"),
    (lambda x: x.strides, V, r"x\.strides"),
    (lambda x: x.flat, V, r"x\.reshape\(-1\)"),
    (lambda x: x.tobytes(), V, r"x\.tobytes"),
    (lambda x: setattr(x, "shape", (3, 1)), V, r"x = x\.reshape\(shape\)"),
    (lambda x: setattr(x, "dtype", np.int32), V, r"x = x\.astype\(dtype\)"),
    (lambda x: x.__delitem__(0), V, r"np\.delete"),
    (lambda x: pow(x, 2, 3), V, r"modulus"),
    (lambda x: np.frompyfunc(lambda a: a, 1, 1)(x), V, r"is not supported on traced arrays"),
    (lambda x: np.nonzero(x), V, r"np\.nonzero is not supported"),
    (lambda x: np.unique(x), V, r"np\.unique is not supported"),
    (lambda x: np.fft.fft(x), V, r"np\.fft\.fft is not supported"),
    (lambda x: np.spacing(x), V, r"np\.spacing is not supported"),
    (lambda x: np.add.reduceat(x, [0, 1]), V, r"np\.add\.reduceat is not supported"),
    (lambda x: x.view(np.int32), V, r"x\.astype"),
    (lambda x: x.reshape(-1, copy=False), V, r"argument 'copy'"),
    (lambda x: "a" and object() + x, V, r"object is no array and no number"),
    (lambda x: x + None, V, r"None is no array and no number"),
    (lambda x: {"out": object()}, V, r"object is no array and no number"),
]


@pytest.mark.parametrize(("function", "type", "text"), REFUSALS)
def test_refusal(function: Callable[..., Any], type: Array, text: str) -> None:
    with pytest.raises(TraceError) as info:
        trace_of(function, type)
    assert re.search(text, str(info.value), re.DOTALL), str(info.value)
    assert re.match(r"(test_refusals|check)\.py:\d+: ", str(info.value)), str(info.value)


def test_python_functions_of_scipy_name_ours() -> None:
    special = pytest.importorskip("scipy.special")
    linalg = pytest.importorskip("scipy.linalg")
    for name in ("logsumexp", "softmax", "log_softmax"):
        with pytest.raises(TraceError, match=rf"test_refusals\.py:\d+: SciPy's {name} .* write adjit\.nn\.{name}"):
            trace_of(lambda x, name=name: getattr(special, name)(x), V)
    with pytest.raises(TraceError, match=r"SciPy's .* write it with functions of NumPy"):
        trace_of(lambda x: linalg.solve(x, x), Array(F32, (3, 3)))
    same(lambda x: special.expit(x), floats(3), exact=False)


WORKING: list[tuple[Callable[..., Any], Any]] = [
    (lambda x: max(x, 0), np.float64(0.5)),
    (lambda x: min(x, 0.25), np.float64(0.5)),
    (lambda x: math.exp(x), np.float64(0.5)),
    (lambda x: math.floor(x), np.float64(1.5)),
    (lambda x: math.ceil(x), np.float64(1.5)),
    (lambda x: math.trunc(x), np.float64(-1.5)),
    (lambda x: round(x), np.float64(2.5)),
    (lambda x: np.asarray(x), floats(3)),
    (lambda x: np.array([x, x]), np.float64(2)),
    (lambda x: np.array([[x, 1.0], [0.0, x]]), np.float64(2)),
    (lambda x: np.full(3, x), np.float64(2)),
    (lambda x: np.eye(3)[x], np.array([2, 0])),
    (lambda x: np.vectorize(lambda a: a)(x), floats(3)),
    (lambda x: np.sum(x, axis=0, out=np.zeros(())), floats(3, dtype=np.float64)),
]


@pytest.mark.parametrize(("function", "value"), WORKING)
def test_what_could_be_taken_for_a_refusal(function: Callable[..., Any], value: Any) -> None:
    same(function, value, exact=False)


def test_an_expression_of_several_lines() -> None:
    def model(x: Any) -> Any:
        return int(
            x,
        )

    with pytest.raises(TraceError) as info:
        trace_of(model, S)
    assert str(info.value).endswith("\n    return int(\n           ^^^^")


def test_out_of_functions_of_the_table() -> None:
    def sums(x: Any) -> Any:
        y = np.zeros_like(x[0])
        np.sum(x, axis=0, out=y)
        np.add.reduce(x, axis=0, out=y)
        z = x.copy()
        np.clip(x, 0, 1, out=z)
        return y, z

    same(sums, floats(3, 3), exact=False)
    with pytest.raises(TraceError, match=r"np\.sum: the result would be written into a plain array"):
        trace_of(lambda x: np.sum(x, axis=0, out=PLAIN[0, ...]), V)


def test_the_text_shows_the_line_and_the_expression() -> None:
    def model(x: Any) -> Any:
        h = x * 2
        return h if h.sum() > 1.5 else x

    with pytest.raises(TraceError) as info:
        trace_of(model, V)
    text = str(info.value)
    line = model.__code__.co_firstlineno
    assert text.startswith(f"test_refusals.py:{line + 2}: the truth of a traced bool[] is asked for")
    assert f"made by `h.sum() > 1.5` at test_refusals.py:{line + 2}" in text
    shown, carets = text.splitlines()[-2:]
    assert shown == "    return h if h.sum() > 1.5 else x"
    assert shown[carets.index("^") : carets.rindex("^") + 1] == "h.sum() > 1.5"


def test_errors_of_type_rules_show_the_line() -> None:
    def model(x: Any) -> Any:
        return x[:, None] * 2 + x[:2] @ x

    with pytest.raises(ShapeError) as info:
        trace_of(model, V)
    assert str(info.value).startswith("test_refusals.py:")
    assert "x[:2] @ x" in str(info.value)


def test_use_after_the_trace() -> None:
    kept: list[Any] = []

    def leak(x: Any) -> Any:
        y = x + 1
        kept.append(y)
        kept.append(y.sum())
        return y

    trace_of(leak, V)
    made = leak.__code__.co_firstlineno + 1
    for use in (lambda: kept[0] + 1, lambda: np.sum(kept[0]), lambda: kept[0][0], lambda: kept[1] * 2,
                lambda: kept[0].__setitem__(0, 1), lambda: bool(kept[1]), lambda: kept[0].T):  # fmt: skip
        with pytest.raises(
            TraceError, match=rf"made at test_refusals\.py:{made + 0}|made at test_refusals\.py:{made + 2}"
        ) as info:
            use()
        assert "after the trace of `leak` has ended" in str(info.value)
    with pytest.raises(TraceError, match="has ended"):
        trace_of(lambda x: x + kept[0], V)


def test_refusals_that_numpy_replaces() -> None:
    """NumPy raises an error of its own in place of ours; the boundary gives ours back."""

    def fill(x: Any) -> Any:
        plain = PLAIN[:3]
        plain[:] = [x.sum(), 1, 2]
        return plain

    def one(x: Any) -> Any:
        plain = PLAIN[:3]
        plain[0] = x.sum()
        return plain

    for function in (fill, one):
        with pytest.raises(TraceError, match=r"test_refusals\.py:\d+: .*plain array") as info:
            trace_of(function, V)
        assert "np.stack" in str(info.value)


def test_errors_of_the_user_pass_unchanged() -> None:
    def broken(x: Any) -> Any:
        raise KeyError("w1")

    with pytest.raises(KeyError, match="w1"):
        trace_of(broken, V)


def test_own_errors_raised_by_library_code_get_the_line() -> None:
    def library(x: Any) -> Any:
        raise ShapeError("softmax: the axis is not there")

    with pytest.raises(ShapeError, match=r"test_refusals\.py:\d+: softmax: the axis is not there"):
        trace_of(library, V)


def test_unknown_arguments_are_named() -> None:
    with pytest.raises(AdjitError, match="'order'"):
        trace_of(lambda x: x.copy(order="F"), V)
    with pytest.raises(TraceError, match="'signature'"):
        trace_of(lambda x: np.add(x, 1, signature="ff->f"), V)


def test_registered_functions_name_their_arguments() -> None:
    from adjit.trace.dispatch import call_by_name

    with pytest.raises(TraceError, match=r"np\.f: the argument 'initial'"):
        trace_of(lambda x: call_by_name("np.f", lambda array: array, {"array": x, "initial": 3}), V)


def test_copies() -> None:
    same(lambda x: (copy.copy(x), copy.deepcopy({"a": x})), floats(3))


def test_printing_shows_the_type_and_the_place() -> None:
    seen: list[str] = []

    def show(x: Any) -> Any:
        y = x + 1
        seen.extend([repr(x), str(y), f"{y}", f"{y!r}"])
        return y

    trace_of(show, V)
    place = f"test_refusals.py:{show.__code__.co_firstlineno + 1}"
    assert seen == ["<traced f32[3]>", *[f"<traced f32[3] from {place}>"] * 3]


def test_attributes() -> None:
    def attributes(x: Any) -> Any:
        assert (x.shape, x.ndim, x.size, x.dtype, x.itemsize, x.nbytes) == ((2, 3), 2, 6, np.float32, 4, 24)
        assert len(x) == 2
        assert not hasattr(x, "columns")
        with pytest.raises(AttributeError, match="no attribute 'columns'"):
            x.columns  # noqa: B018
        return x.T, x.mT, x.real, x.imag, x.conj()

    same(attributes, floats(2, 3))


def test_methods() -> None:
    def methods(x: Any) -> Any:
        y = x.copy()
        y.fill(2)
        return (
            x.reshape(3, 2), x.reshape((6,)), x.reshape(-1, 2), x.ravel(), x.flatten(), x.flatten("F"), x.ravel("F"),
            x.reshape(3, 2, order="F"), x.transpose(), x.transpose(1, 0), x.transpose((1, 0)), x.T.copy(order="K"),
            x[None].squeeze(), x[:, None].squeeze(1), x.swapaxes(0, 1), x.astype(np.float64), x.view(), y,
            x.clip(-0.5, 0.5), x.max(), x.min(axis=1), x.argmax(), x.any(), x.all(axis=0), x.cumsum(),
            x.take([0, 1], axis=1),
        )  # fmt: skip

    same(methods, floats(2, 3), exact=False)


def test_every_attribute_of_ndarray_is_there_or_refused_with_a_reason() -> None:
    own = {name for kind in Tracer.__mro__ for name in vars(kind)}
    own |= {name for kind in Tracer.__subclasses__() for name in vars(kind)}
    plain = set(dir(object)) - {"__hash__", "__eq__"}
    missing = {
        name
        for name in dir(np.ndarray)
        if name not in own | plain | set(table.METHODS) | set(table.PROPERTIES)
        and not table.UNSUPPORTED_ATTRIBUTES.get(name)
        and not table.ABSENT_ATTRIBUTES.get(name)
    }
    assert not missing


def test_no_attribute_stands_in_two_lists() -> None:
    lists = [set(table.METHODS), set(table.PROPERTIES), set(table.UNSUPPORTED_ATTRIBUTES), set(table.ABSENT_ATTRIBUTES)]
    assert sum(map(len, lists)) == len(set().union(*lists))


def test_asarray_outside_a_trace_is_numpys() -> None:
    assert type(adjit.trace.asarray([1, 2])) is np.ndarray
    same(lambda x: adjit.trace.asarray([x, x + 1, 3.0]), np.float64(2))
    same(lambda x: adjit.trace.asarray([[x, 1.0], [0.0, x]]), np.float64(2))


def test_lists_of_tracers_as_operands() -> None:
    same(lambda x: np.add([x, 2.0], x), np.float64(2))
    assert run(lambda x: adjit.trace.stop_gradient({"a": x, "b": 2})["a"], floats(2)).shape == (2,)


def test_refusals_of_truth_say_what_fits_the_statement() -> None:
    def loop(x: Any) -> Any:
        while x > 0:
            x = x - 1
        return x

    def check(x: Any) -> Any:
        assert x > 0
        return x

    def flag(x0: Any) -> Any:
        return 1.0 if x0 else 2.0

    for function, type, text in (
        (loop, S, r"adjit.while_loop\(cond, body, init\)"),
        (check, S, r"before the call or the results after"),
        (flag, N, r"static_argnames=\('x0',\)"),
    ):
        with pytest.raises(TraceError, match=text) as info:
            trace_of(function, type)
        assert "np.where(condition" not in str(info.value)
