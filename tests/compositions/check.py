"""Whether what is made of a function agrees with what it was made of: a program that was drawn, its plain Python, and a
tower of transformations of it, each compiled, evaluated, and against differences of the one below."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import adjit
from adjit.ir.evaluate import evaluate

Function = Callable[[Any], Any]


def loaded(text: str, folder: Path, name: str) -> ModuleType:
    """The source as a module with a file, so that its lines can be read."""
    file = folder / f"{name}.py"
    file.write_text(text)
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def close(found: Any, wanted: Any, rtol: float, text: str) -> None:
    """Equal but for rounding, relative to the largest element."""
    found, wanted = np.asarray(found), np.asarray(wanted)
    assert found.shape == wanted.shape, (text, found.shape, wanted.shape)
    assert np.isfinite(wanted).all(), (text, wanted)
    np.testing.assert_allclose(found, wanted, rtol=rtol, atol=rtol * np.max(np.abs(wanted), initial=1.0), err_msg=text)


@dataclass(frozen=True)
class Floor:
    """A function that is compiled, with its value at a point."""

    name: str
    function: Function
    compiled: Any
    value: np.ndarray


def floor(name: str, function: Function, x: np.ndarray) -> Floor:
    """A function compiled; it gives what its graph gives in the interpreter."""
    compiled = adjit.jit(function)
    made = Floor(name, function, compiled, np.asarray(compiled(x)))
    close(made.value, evaluated(made, x), 1e-8, f"{name}: compiled and evaluated")
    return made


def evaluated(made: Floor, x: np.ndarray) -> np.ndarray:
    """What the interpreter gives for the graph, before passes: they leave values as they are, up to sums in another
    order, which the turns of a loop may amplify."""
    (value,) = evaluate(made.compiled.ir("trace", x), x)
    return np.asarray(value)


def weights(shape: tuple[int, ...]) -> np.ndarray:
    return np.cos(np.arange(float(np.prod(shape)))).reshape(shape) + 0.3


STEP = 2e-4


def slopes(function: Function, x: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The Jacobian by differences of order 4, and how far it is to be trusted: by how much another step changes it."""
    found = []
    for step in (STEP, STEP / 2):
        columns = []
        for at in range(x.size):
            way = np.zeros(x.size)
            way[at] = step
            a, b, c, d = (np.asarray(function(x + k * way.reshape(x.shape))) for k in (1, -1, 2, -2))
            columns.append((8 * (a - b) - (c - d)) / (12 * step))
        found.append(np.stack(columns, axis=-1).reshape(*shape, *x.shape))
    return found[1], np.abs(found[1] - found[0])


# -- what is made of a function: it, and what a Jacobian says of it ---------------------------------------------------

Make = Callable[[Function, Any, Any], Function]
"""Of a function, cotangents of its values, and a tangent of its argument."""


def _total(f: Function, w: Any) -> Function:
    return lambda x: np.sum(w * f(x))


def _hvp(f: Function, w: Any, v: Any) -> Function:
    product = adjit.hvp(_total(f, w))
    return lambda x: product(x, v)


def _along(j: Any, w: Any, v: Any) -> Any:
    return np.tensordot(j, v, v.ndim)


def _back(j: Any, w: Any, v: Any) -> Any:
    return np.tensordot(w, j, w.ndim)


def _whole(j: Any, w: Any, v: Any) -> Any:
    return j


FIRST: dict[str, tuple[Make, Callable[[Any, Any, Any], Any]]] = {
    "grad": (lambda f, w, v: adjit.grad(_total(f, w)), _back),
    "jvp": (lambda f, w, v: lambda x: adjit.jvp(f, (x,), (v,))[1], _along),
    "vjp": (lambda f, w, v: lambda x: adjit.vjp(f, x)[1](w)[0], _back),
    "linearize": (lambda f, w, v: lambda x: adjit.linearize(f, x)[1](v), _along),
    "elementwise_grad": (lambda f, w, v: adjit.elementwise_grad(lambda x: w * f(x)), _back),
    "jacfwd": (lambda f, w, v: adjit.jacfwd(f), _whole),
    "jacrev": (lambda f, w, v: adjit.jacrev(f), _whole),
    "jacobian": (lambda f, w, v: adjit.jacobian(f), _whole),
}
SECOND: dict[str, tuple[Make, Callable[[Any, Any, Any], Any]]] = {
    "hessian": (lambda f, w, v: adjit.hessian(_total(f, w)), _whole),
    "hvp": (_hvp, _along),
}
"""By differences of the gradient."""


def batch(x: np.ndarray) -> Any:
    return np.stack([x, 0.9 * x, x + 0.05])


BATCHES: dict[str, Function] = {
    "vmap": lambda f: lambda x: adjit.vmap(f)(batch(x)),
    "vmap in chunks": lambda f: lambda x: adjit.vmap(f, chunk=2)(batch(x)),
}
KINDS = (*FIRST, *SECOND, *BATCHES)


def raised(below: Floor, kind: str, x: np.ndarray) -> Floor:
    """What a transformation makes of a function, checked against that."""
    name = f"{kind} of {below.name}"
    w, v = weights(below.value.shape), weights(x.shape)
    if kind in BATCHES:
        made = floor(name, BATCHES[kind](below.function), x)
        close(made.value, np.stack([below.compiled(each) for each in batch(x)]), 1e-8, f"{name}: the loop")
        return made
    make, meaning = FIRST[kind] if kind in FIRST else SECOND[kind]
    made = floor(name, make(below.function, w, v), x)
    base, shape = below.compiled, below.value.shape
    if kind in SECOND:
        base, shape = adjit.jit(adjit.grad(_total(below.function, w))), x.shape
    jacobian, doubt = slopes(base, x, shape)
    scale = np.max(np.abs(jacobian), initial=1.0)
    # Where the difference of two steps is as large as that, a kink or a jump is near.
    if np.max(doubt, initial=0.0) < 1e-3 * scale:
        text = f"{name}: differences"
        atol = 1e-6 * scale + 20 * meaning(doubt, np.abs(w), np.abs(v))
        assert (np.abs(made.value - meaning(jacobian, w, v)) <= atol).all(), (text, made.value, jacobian, w, v)
    return made


MOST_ELEMENTS = 400


def tower(module: ModuleType, reference: ModuleType, seed: int, most: int = 3) -> list[str]:
    """Check a program, and a tower of transformations of it as a seed says; the names of its floors."""
    choose = random.Random(seed)
    size = int(module.SIZE)
    x = np.random.default_rng(seed).uniform(-1.3, 1.3, size)
    below = floor("f", module.f, x)
    close(below.value, reference.f(x), 1e-9, "f: compiled and plain Python")
    # Where branches may be others.
    elsewhere = 0.7 * x - 0.4
    close(below.compiled(elsewhere), reference.f(elsewhere), 1e-9, "f elsewhere: compiled and plain Python")
    names = ["f"]
    for _ in range(choose.randint(1, most)):
        kind = choose.choice(KINDS)
        if below.value.size * x.size > MOST_ELEMENTS:
            kind = choose.choice(["grad", "vjp", "hvp", "elementwise_grad"])
        below = raised(below, kind, x)
        names.append(kind)
    return names


def programs(text: str, folder: Path, name: str) -> tuple[ModuleType, ModuleType]:
    """A source as a module, and the same as plain Python."""
    return (
        loaded(text, folder, name),
        loaded(text.replace("import adjit", "from tests.compositions import plain as adjit"), folder, f"{name}_plain"),
    )
