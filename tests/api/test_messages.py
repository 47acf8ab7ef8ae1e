"""What people read: names of their own in messages, both types of operands, the right call, and frames of theirs."""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from math import sin
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import adjit
from adjit import optim
from adjit.optim import schedule
from adjit.trace import table
from tests.api.test_errors import GOOD

X, Y = np.ones(4), np.ones(3)
HERE = os.path.basename(__file__)


def plain(a: Any) -> Any:
    return a


def text(a: Any) -> Any:
    total = a + 1
    return {"sum": total, "name": "model"}


def branches(a: Any, flag: bool) -> Any:
    if flag:
        return "yes"
    return a


def loss(p: Any, x: Any) -> Any:
    return np.sum(p["w"] * x)


def step_and_state() -> tuple[Any, Any]:
    step = adjit.training_step(loss, optim.sgd(0.1))
    return step, step.init({"w": np.ones(3)})


def run(**given: Any) -> Any:
    step, state = step_and_state()
    return step.run(state, (np.ones((4, 3)),), **{"batch_size": 1, **given})


class Model:
    def __init__(self) -> None:
        self.w = X


@dataclass
class Thawed:
    by: float = 2.0


def scaled(a: Any, by: Any) -> Any:
    return a * by.by


def keyed(loss: Callable[..., Any]) -> Any:
    step = adjit.training_step(loss, optim.sgd(0.1))
    return step(step.init(X), X)


def traced(function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
    return lambda: adjit.jit(function)(*(args or (X, Y)))


FIT = r"f64\[4\] and f64\[3\] do not fit each other: 4 is not 3"
BAD: list[tuple[Callable[[], Any], str]] = [
    # Operands of shapes that do not fit: the operation and both types.
    (traced(lambda a, b: a + b), rf"np\.add: {FIT}"),
    (traced(lambda a, b: a < b), rf"np\.less: {FIT}"),
    (traced(lambda a, b: np.maximum(a, b)), rf"np\.maximum: {FIT}"),
    (traced(lambda a, b: np.where(a > 0, a, b)), r"np\.where: bool\[4\], f64\[4\] and f64\[3\] do not fit"),
    (traced(lambda a, b: np.sum(a, where=b > 0)), r"where=: bool\[3\] and f64\[4\] do not fit"),
    (traced(lambda a, b: np.mean(a, where=b > 0)), r"where=: bool\[3\] and f64\[4\] do not fit"),
    (traced(lambda a, b: np.hypot(a, b)), rf"np\.hypot: {FIT}"),
    (traced(lambda a, b: np.broadcast_arrays(a, b)), rf"broadcast_arrays: {FIT}"),
    (traced(lambda a, b: np.linspace(a, b, 3)), rf"linspace: {FIT}"),
    (traced(lambda a, b: np.add(a, b, out=a.copy())), rf"np\.add: {FIT}"),
    (traced(lambda a, b: a @ b), r"matmul: .*f64\[4\] @ f64\[3\]: 4 is not 3"),
    (lambda: step_and_state()[0](step_and_state()[1], X), r"np\.multiply: f64\[3\] and f64\[4\]"),
    (traced(lambda a, b: a.copy().__setitem__(slice(None), b)), r"f64\[3\] is written into a place of f64\[4\]"),
    # What a function returns: at its return.
    (traced(text, X), r"test_messages\.py:\d+: text returns a str, 'model' in its result(.|\n)*return {\"sum\""),
    (lambda: adjit.jit(branches, static_argnames="flag")(X, True), r"'yes'; .* \(it returns in lines \d+, \d+\)"),
    (traced(lambda a: object(), X), "returns an object;"),
    (lambda: adjit.grad(lambda a: None)(X), r"grad: <lambda> at test_messages\.py:\d+ returns one scalar, not None"),
    (lambda: adjit.grad(lambda a: [a])(X), r"grad: .* returns one scalar, not a list of 1; if it returns"),
    (lambda: adjit.value_and_grad(lambda a: a)(X), r"value_and_grad: .* returns f64\[4\], .*: return its np\.sum"),
    (lambda: adjit.grad(lambda a: np.sum(a) > 0)(X), r"grad: .* returns bool\[\]; only floats have a gradient"),
    (lambda: adjit.grad(plain, has_aux=True)(1.0), r"grad: with has_aux=True plain returns \(loss, aux\)"),
    # What was called, by its name.
    (lambda: adjit.grad(3), "grad: function is a function, not 3"),
    (lambda: adjit.grad(plain, argnums=5)(X), "grad: argnums=5, and plain was called with 1"),
    (lambda: adjit.grad(plain, argnums=(0, 0)), "grad: argnums is one position or several different ones"),
    (lambda: adjit.grad(plain)(1), "grad: plain is to be differentiated by a"),
    (lambda: adjit.value_and_grad(plain)(1), "value_and_grad: plain is to be differentiated by a"),
    (lambda: adjit.jit(lambda a: a)("text"), r"<lambda> at test_messages\.py:\d+: a: 'text' is no array"),
    # Arguments of the user's function.
    (lambda: adjit.jit(lambda a, b: a)(X), r"<lambda> at test_messages.py:\d+: missing a required argument: 'b'"),
    (lambda: adjit.jit(plain)(X, b=2), "plain: got an unexpected keyword argument 'b'; it takes"),
    (lambda: adjit.jit(plain)(X, X), "plain: too many positional arguments"),
    # Values that are none.
    (traced(lambda a: a + None, X), "None is no array and no number"),
    (traced(lambda a: a @ None, X), "None is no array and no number"),
    (traced(lambda a: np.dot(a, None), X), "None is no array and no number"),
    (traced(lambda a: a + object(), X), "an object is no array and no number"),
    (traced(lambda a: a < None, X), "compared with None"),
    (traced(lambda a: a == "x", X), "compared with 'x', which is no number"),
    (traced(lambda a: int(a[0]), X), r"made of a traced f64\[\]"),
    (traced(lambda a: 1 if a[0] > 0 else 0, X), r"the truth of a traced bool\[\]"),
    (traced(lambda a: list(a), 1.0), "iteration over a traced scalar"),
    # Names that people know from elsewhere.
    (lambda: adjit.nn.softmax(X, dim=0), "softmax has no argument 'dim': it is 'axis' here"),
    (lambda: adjit.nn.dropout(X, p=0.5, key=1), "it is 'rate' here"),
    (lambda: adjit.nn.mse(X), r"mse: missing a required argument: 'target'; it is mse\(prediction, target"),
    (lambda: adjit.nn.cross_entropy(X[None], np.zeros(3, int)), "cross_entropy: logits of shape"),
    (lambda: adjit.nn.init.he_normal((2, 3), rng=1, key=1), "he_normal has no argument 'rng': it has shape, key"),
    (lambda: adjit.parse("graph"), "expected"),
    (lambda: adjit.evaluate(3), "evaluate: graph is a Graph"),
    (lambda: adjit.machine(refresh=True), "machine has no argument 'refresh': it is 'remeasure' here"),
    (lambda: optim.adam(lr=1e-3), "adam has no argument 'lr': it is 'learning_rate' here"),
    (lambda: optim.adam(1e-3, betas=(0.9, 0.99)), r"they are b1 and b2 here, as adam\(1e-3, b1=0.9, b2=0.999\)"),
    (lambda: optim.adam(1e-3, epsilon=1e-7), "it is 'eps' here"),
    (lambda: optim.adam(1e-3, max_norm=0.1), r"an argument of the step, training_step\(loss, optimizer, clip_norm"),
    (lambda: optim.sgd(0.1, momentun=0.9), "did you mean 'momentum'"),
    (lambda: optim.adam(1e-3, foo=3), "it has learning_rate, b1, b2, eps"),
    (lambda: optim.adam(), r"missing a required argument: 'learning_rate'; it is adam\(learning_rate, b1, b2, eps, "),
    (lambda: optim.sgd(0.1, 0.9, True, 0.0, 0.1, 3), "sgd: too many positional arguments"),
    (lambda: optim.adam(-1e-3), r"learning_rate is a number >= 0.0, not -0.001; .* by itself: adam\(1e-3\)"),
    (lambda: optim.rmsprop(0.1, alpha=0.9), "it is 'decay' here"),
    (lambda: schedule.cosine(1e-3, total_steps=3), "cosine has no argument 'total_steps': it is 'steps' here"),
    (lambda: adjit.training_step(loss, "adam"), r"such as adjit\.optim\.adam\(1e-3\), not 'adam'"),
    (lambda: adjit.training_step(loss, optim.sgd(0.1), max_norm=1), "it is 'clip_norm' here"),
    (lambda: adjit.training_step(loss), "missing a required argument: 'optimizer'"),
    (lambda: adjit.grad(plain, argnum=1), "it is 'argnums' here"),
    (lambda: adjit.jit(plain, static_argname="a"), "it is 'static_argnames' here"),
    (lambda: run(progress=True), r"progress is a function of .*, not True: progress=lambda done, total, loss: print"),
    (lambda: run(n_epochs=3), "run has no argument 'n_epochs': it is 'epochs' here"),
    (lambda: step_and_state()[0]({"w": Y}, Y), r"takes a state, which step.init\(params\) makes, not a dict"),
    (lambda: step_and_state()[0].init(3), "params is an int, not an array or a float: write it with a point, 1.0"),
    # Sizes and flags that are arguments: which one is to be static.
    (traced(lambda n: np.zeros(n), 3), r"make it a static argument: static_argnames=\('n',\)"),
    (traced(lambda n: np.ones((n, 2)), 3), r"a size, .* static_argnames=\('n',\)"),
    (traced(lambda n: np.empty([2, n]), 3), r"a size, .* static_argnames=\('n',\)"),
    (traced(lambda a, n: a.reshape(n, -1), X, 2), r"a size, .* static_argnames=\('n',\)"),
    (traced(lambda a, n: a.reshape((n, 2)), X, 2), r"a size, .* static_argnames=\('n',\)"),
    (traced(lambda a, n: a[:n], X, 2), r"a bound of a slice .* static_argnames=\('n',\)"),
    (traced(lambda n: np.arange(n), 3), "or make it a static argument"),
    (traced(lambda a, n: [a for _ in range(n)], X, 2), r"a count .* static_argnames=\('n',\)"),
    (traced(lambda a, flag: a if flag else -a, X, True), r"a flag is .*: static_argnames=\('flag',\)"),
    (traced(lambda a, c: a if c["on"] else -a, X, {"on": True}), r"c\.on is a part .* static_argnames=\('c',\)"),
    (traced(lambda a, c: a[: c[1]], X, (1, 2)), r"c\.1 is a part of a traced one: .* static_argnames=\('c',\)"),
    (lambda: adjit.jit(scaled, static_argnames="by")(X, Thawed()), r"a Thawed, .* write @dataclass\(frozen=True\)"),
    # Objects of the user's classes.
    (lambda: adjit.jit(lambda m: m)(Model()), "Model is no array.*: make Model a dataclass, .*in static_argnames"),
    (lambda: step_and_state()[0].init(Model()), "a Model, not .*: make Model a dataclass, or register it with optree"),
    # What has no gradient, and what to write.
    (lambda: adjit.grad(plain)(1), "by a, which is a Python int; only floats .*: write it with a point"),
    (lambda: adjit.grad(plain)(np.arange(3)), r"which is i64\[3\]; .*: write x\.astype\(float\)"),
    (lambda: adjit.grad(plain)(True), r"which is bool\[\]~; only floats have a gradient$"),
    (lambda: adjit.grad(plain)(a=1.0), "called with 0 positional arguments: give what .* without its name"),
    (lambda: adjit.grad(plain)(X), "return its np.sum or np.mean .docs/gotchas.md has the Jacobian"),
    # Keys of a loss, and rates that change.
    (lambda: keyed(lambda p, x, key=None: np.sum(p * x)), r"stays empty here: write a \* before it"),
    (lambda: keyed(lambda p, x, key: np.sum(p * x)), r"stays empty here: write a \* before it"),
    (lambda: optim.adam(lambda t: 0.1 / t), r"a schedule, as adjit\.optim\.schedule\.cosine"),
    # The star of the call to write.
    (lambda: step_and_state()[0].run(None, X, Y, 2), r"it is run\(state, data, \*, batch_size, epochs"),
    # Functions that a trace does not see.
    (traced(lambda a: a.tolist(), X), r"write list\(x\), whose elements are traced, too"),
    (traced(lambda a: sin(a), 1.0), r"`sin` was taken out of math .*: write import math, and math\.sin\(\.\.\.\)"),
    (traced(lambda a: np.polynomial.polynomial.polyval(2.0, a), X), r"np\.polynomial\.polynomial\.polyval makes plain"),
    (traced(lambda a: list(np.nditer(a)), X), r"np\.nditer makes plain arrays"),
    (traced(lambda a: len(a[a > 0]), X), r"np\.sum\(mask\) for their number"),
]  # fmt: skip

INTERNAL = re.compile(
    r"Tracer\b|NoneType|_adjit|CompiledFunction|StepFunction|GradFunction|<locals>|<class|LeafType|PyTreeSpec"
)


@pytest.mark.parametrize(("call", "expected"), BAD)
def test_bad_calls(call: Callable[[], Any], expected: str) -> None:
    with pytest.raises(adjit.AdjitError, match=expected) as caught:
        call()
    assert not INTERNAL.search(str(caught.value)), str(caught.value)
    assert "value_and_grad" not in str(caught.value) or "value_and_grad" in expected
    files = {os.path.basename(frame.filename) for frame in traceback.extract_tb(caught.value.__traceback__)}
    assert files == {HERE}, files


# Classes made by dataclass, and calls by way of a function of the table's own.
BY_PYTHON = {"State.hyper", "State.key", "TrainingStep.profile", "evaluate", "optim.Optimizer", "optim.Schedule",
             "optim.Schedule.__call__", "fixed_point", "linearize", "pattern", "root", "vjp"}  # fmt: skip


@pytest.mark.parametrize("name", sorted(GOOD.keys() - BY_PYTHON))
def test_every_public_function_tells_what_it_does_not_have(name: str) -> None:
    function, arguments = GOOD[name]()
    with pytest.raises(adjit.ArgumentError, match="surely_not") as caught:
        function(**arguments, surely_not=1)
    assert not INTERNAL.search(str(caught.value)), str(caught.value)
    files = {os.path.basename(frame.filename) for frame in traceback.extract_tb(caught.value.__traceback__)}
    assert files == {HERE}, files


@pytest.mark.parametrize("call", [lambda a: a + "s", lambda a: a(), lambda a: setattr(a, "foo", 1)])
def test_errors_of_python_name_what_users_see(call: Callable[[Any], Any]) -> None:
    for x in (X, 1.0):
        with pytest.raises((TypeError, AttributeError), match=r"traced (array|scalar)") as caught:
            adjit.jit(call)(x)
        assert not INTERNAL.search(str(caught.value))


def missing_name(a: Any) -> Any:
    return np.sum(a * there_is_no_such_name)  # type: ignore[name-defined]  # noqa: F821


def raising(a: Any) -> Any:
    raise LookupError("of the user's own")


STEP = adjit.training_step(lambda p, x: raising(p), optim.sgd(0.1))


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda: adjit.grad(missing_name)(X), NameError),
        (lambda: adjit.jit(lambda a: adjit.grad(missing_name)(a))(X), NameError),
        (lambda: adjit.jit(lambda p: p["b"])({"a": X}), KeyError),
        (lambda: adjit.jit(raising)(X), LookupError),
        (lambda: adjit.jit(raising).ir("trace", X), LookupError),
        (lambda: STEP(STEP.init(X), X), LookupError),
        (lambda: STEP.run(STEP.init(X), (X,), batch_size=2), LookupError),
        (lambda: adjit.jit(lambda a: a.summ())(X), AttributeError),
        (lambda: adjit.jit(lambda a: np.no_such_function(a))(X), AttributeError),
        (lambda: adjit.jit(lambda a: a + "s")(X), TypeError),
    ],
)
def test_mistakes_in_the_users_code_have_the_users_frames(call: Callable[[], Any], kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert not isinstance(caught.value, adjit.AdjitError)
    files = {os.path.basename(frame.filename) for frame in traceback.extract_tb(caught.value.__traceback__)}
    assert files == {HERE}, files


def test_a_fault_of_ours_keeps_all_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adjit.functions.trace_call", None)
    with pytest.raises(TypeError, match="NoneType") as caught:
        adjit.jit(plain)(X)
    files = [os.path.basename(frame.filename) for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert files[0] == HERE
    assert files[-1] == "functions.py"


def test_a_key_that_the_batch_fills_is_the_batchs() -> None:
    step = adjit.training_step(lambda p, query, key: np.sum(p * query * key), optim.sgd(0.1))
    assert step(step.init(np.ones(4)), X, 2 * X) == 8.0
    step = adjit.training_step(lambda p, x, key=None: np.sum(p * x * key), optim.sgd(0.1))
    assert step(step.init(np.ones(4)), X, key=2 * X) == 8.0


def test_a_lambda_has_a_valid_name_in_the_graph() -> None:
    f = adjit.jit(lambda x: x + 1)
    f(1.0)
    assert re.fullmatch(r"<compiled <lambda> at test_messages\.py:\d+>", repr(f))
    graph = f.ir("trace")
    assert graph.name == "lambda"
    assert str(adjit.parse(str(graph))) == str(graph)


@pytest.mark.skipif(os.environ.get("ADJIT_TRACEBACK", "") != "", reason="the setting is the test's")
def test_all_frames_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    def files() -> list[str]:
        with pytest.raises(adjit.ShapeError) as caught:
            adjit.jit(lambda a, b: a + b)(X, Y)
        return [frame.filename for frame in traceback.extract_tb(caught.value.__traceback__)]

    assert {os.path.basename(file) for file in files()} == {HERE}
    monkeypatch.setenv("ADJIT_TRACEBACK", "full")
    assert any(os.path.basename(file) == "call.py" for file in files())
    monkeypatch.setenv("ADJIT_TRACEBACK", "some")
    with pytest.raises(adjit.ArgumentError, match=r"ADJIT_TRACEBACK=some: 'user' .* or 'full'"):
        adjit.jit(lambda a, b: a + b)(X, Y)


def test_an_error_in_a_native_entry_has_the_users_frames(tmp_path: Path) -> None:
    f = adjit.jit(lambda x, i: x[i])
    for _ in range(4):
        f(X, np.int64(1))
    with pytest.raises(adjit.IndexOutOfRange) as caught:
        f(X, np.int64(9))
    assert {os.path.basename(frame.filename) for frame in traceback.extract_tb(caught.value.__traceback__)} == {HERE}


def test_files(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    _, state = step_and_state()
    path = tmp_path / "none" / "model.safetensors"
    with pytest.raises(adjit.ArgumentError, match=r"the path comes first: save\('model', state\)"):
        adjit.save(state, "model")  # type: ignore[arg-type]
    with pytest.raises(adjit.FileMissing, match=r"there is no folder '.*none': os\.makedirs"):
        adjit.save(path, state)
    with pytest.raises(FileNotFoundError, match=r"load: there is no file '.*model\.safetensors'"):
        adjit.load(path)
    with pytest.raises(adjit.ArgumentError, match="save has no argument 'filename': it is 'path' here"):
        adjit.save(filename=path, state=state)  # type: ignore[call-arg]


SIMPLE = [np.sum, np.mean, np.tanh, np.exp, np.maximum.reduce, np.linalg.norm, np.prod, np.max, np.cumsum, np.var]


@pytest.mark.parametrize("function", SIMPLE, ids=lambda f: getattr(f, "__name__", "?"))
def test_functions_of_numpy_as_they_are(function: Any) -> None:
    np.testing.assert_allclose(adjit.jit(function)(X), function(X), rtol=1e-14)  # another order of sums


UFUNCS = sorted((u for u in table.UFUNCS if isinstance(u, np.ufunc)), key=lambda u: u.__name__)


@pytest.mark.parametrize("ufunc", UFUNCS, ids=lambda u: u.__name__)
def test_every_ufunc_is_a_function_to_compile(ufunc: np.ufunc) -> None:
    for x in (np.array([0.25, 0.5]), np.array([2, 3])):
        args = [x] * ufunc.nin
        try:
            with np.errstate(all="ignore"):
                expected = ufunc(*args)
        except (TypeError, ValueError):
            continue
        if all(np.asarray(e).dtype.kind in "biuf" for e in (expected if ufunc.nout > 1 else [expected])):
            found = adjit.jit(ufunc)(*args)
            np.testing.assert_allclose(np.array(found), np.array(expected), rtol=1e-13)  # libm differs in the last bits


def test_functions_of_scipy_as_they_are() -> None:
    special = pytest.importorskip("scipy.special")
    for name in ("erf", "expit", "logit", "xlogy", "entr"):
        function = getattr(special, name)
        args = [np.array([0.25, 0.5])] * function.nin
        np.testing.assert_allclose(adjit.jit(function)(*args), function(*args), rtol=1e-13)  # ours and SciPy's
    assert adjit.grad(special.erf)(0.0) == pytest.approx(2 / np.sqrt(np.pi))
    assert adjit.grad(np.tanh)(0.0) == 1.0
