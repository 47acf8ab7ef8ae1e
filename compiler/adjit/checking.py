"""`check_grads`: derivatives of a function, in both modes and to any order, against differences of its values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optree

from adjit.driver import jit, options_of
from adjit.functions import JitFunction, check_floats
from adjit.transforms import jvp, vjp
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError, DerivativeError
from adjit_runtime.public import public
from adjit_runtime.trees import flatten

_MODES = {"fwd": "forward mode", "rev": "reverse mode"}


@public({"f": "function", "fun": "function", "func": "function", "eps": "step", "primals": "args", "tol": "rtol"})
def check_grads(
    function: Callable[..., Any],
    args: Any,
    order: int = 2,
    modes: str | Sequence[str] = ("fwd", "rev"),
    *,
    rtol: float = 1e-5,
    atol: float = 1e-7,
    step: float = 1e-4,
) -> None:
    """Check the derivatives of `function(*args)` by all of its arguments against central differences.

    `args` is a tuple of pytrees of floats, which are taken as float64. For each leaf the derivative along a random
    direction is compared: that of forward mode in each element of the value, that of reverse mode by its product with
    a random cotangent. With `order` 2 the derivatives themselves are checked as functions, each in all `modes` ("fwd",
    "rev", or both), so that forward over reverse, reverse over forward and so on are covered; and so on for higher
    orders. Two numbers agree if they differ by no more than `atol` + `rtol` times the largest element. Differences are
    those of order 4 with this `step`; the point should be farther than twice that from kinks.

        >>> import numpy as np, adjit
        >>> adjit.check_grads(lambda x, y: x * np.sin(y), (np.array([0.5, 2.0]), 1.5))

    Raises DerivativeError (an AssertionError), which names the mode, the argument and both numbers; else as `jvp`."""
    checks.function("check_grads: function", function)
    if not isinstance(args, tuple | list):
        raise ArgumentError(
            f"check_grads: args is a tuple with one entry for each argument, (x,), not {checks.shown(args)}"
        )
    wanted = checks.several("check_grads: modes", modes, str)
    for mode in wanted:
        checks.choice("check_grads: modes", mode, tuple(_MODES))
    rtol, atol = checks.real("check_grads: rtol", rtol, 0.0), checks.real("check_grads: atol", atol, 0.0)
    step = checks.real("check_grads: step", step, 1e-12, 1.0)
    depth = checks.integer("check_grads: order", order, 1)
    plain = _Given(function, options_of("check_grads", "auto", False), (), ())
    try:
        plain.__signature__.bind(*args)
    except TypeError as error:
        raise ArgumentError(f"check_grads: args does not fit {plain.__name__}: {error}") from None
    signature, leaves, names = plain.signature_of(tuple(args), {})
    check_floats(plain, range(len(leaves)), signature.types, names())
    positional, _ = signature.tree.children()
    wide = [np.asarray(x, np.float64) for x in leaves]
    _Check(positional, wide, names(), wanted, rtol, atol, step).run(plain, depth, plain.__name__)


class _Given(JitFunction):
    kind = "check_grads"


class _Check:
    """A point, and what is to be checked there. `leaves` are those of the arguments, `tree` their structure."""

    def __init__(
        self,
        tree: optree.PyTreeSpec,
        leaves: list[np.ndarray],
        names: list[str],
        modes: Sequence[str],
        rtol: float,
        atol: float,
        step: float,
    ) -> None:
        self.tree, self.leaves, self.names, self.modes = tree, leaves, names, modes
        self.rtol, self.atol, self.step = rtol, atol, step
        self.rng = np.random.default_rng(0)

    def run(self, function: Callable[..., Any], order: int, what: str) -> None:
        """Check the derivatives of a compiled function at the point, and theirs."""
        args = self._args(self.leaves)
        pushed = jit(lambda args, tangents: jvp(function, args, tangents)[1])
        pulled = jit(lambda args, weights: vjp(function, *args)[1](weights))
        weights = self._like(function(*args))
        for i, name in enumerate(self.names):
            direction = [self._direction(x) if j == i else np.zeros_like(x) for j, x in enumerate(self.leaves)]
            wanted = self._differences(function, direction)
            if "fwd" in self.modes:
                self._compare(what, "fwd", name, _floats(pushed(args, self._args(direction))), wanted)
            if "rev" in self.modes:
                found = np.sum(flatten(pulled(args, weights))[0][i] * direction[i])
                expected = sum(np.sum(w * d) for w, d in zip(_floats(weights), wanted, strict=True))
                self._compare(what, "rev", name, [found], [np.asarray(expected)])
        if order == 1:
            return
        tangents = self._args([self._direction(x) for x in self.leaves])
        further = {
            "fwd": lambda *args: jvp(function, args, tangents)[1],
            "rev": lambda *args: vjp(function, *args)[1](weights),
        }
        for mode in self.modes:
            self.run(jit(further[mode]), order - 1, f"the derivative of {what} in {_MODES[mode]}")

    def _args(self, leaves: Sequence[Any]) -> Any:
        return optree.tree_unflatten(self.tree, leaves)

    def _direction(self, x: np.ndarray) -> np.ndarray:
        """Of elements that are neither small nor large."""
        return np.asarray(self.rng.uniform(0.5, 1.5, x.shape) * self.rng.choice((-1.0, 1.0), x.shape))

    def _like(self, value: Any) -> Any:
        """A cotangent of a value."""
        leaves, tree = flatten(value)
        made = [self._direction(x).astype(x.dtype) if x.dtype.kind == "f" else x for x in map(np.asarray, leaves)]
        found: Any = optree.tree_unflatten(tree, made)
        return found

    def _differences(self, function: Callable[..., Any], direction: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The derivative of the floats of the value along a direction."""
        sides = []
        for times in (1, -1, 2, -2):
            moved = [x + times * self.step * d for x, d in zip(self.leaves, direction, strict=True)]
            sides.append(_floats(function(*self._args(moved))))
        return [
            (8 * (near - back) - (far - behind)) / (12 * self.step)
            for near, back, far, behind in zip(*sides, strict=True)
        ]

    def _compare(
        self, what: str, mode: str, name: str, found: Sequence[np.ndarray], wanted: Sequence[np.ndarray]
    ) -> None:
        for one, other in zip(found, wanted, strict=True):
            bound = self.atol + self.rtol * float(np.max(np.abs(other), initial=0.0))
            # So that NaN is a difference.
            bad = ~(np.abs(one - other) <= bound)
            if not bad.any():
                continue
            at = tuple(int(i) for i in np.argwhere(bad)[0])
            place = f", in element {at[0] if len(at) == 1 else at} of the value" if at else ""
            raise DerivativeError(
                f"check_grads: the derivative of {what} by {name}, along a random direction{place}: {_MODES[mode]} "
                f"gives {float(one[at])!r}, differences give {float(other[at])!r}"
            )


def _floats(tree: Any) -> list[np.ndarray]:
    """The floats among the leaves, as float64."""
    arrays = [np.asarray(x) for x in flatten(tree)[0]]
    return [x.astype(np.float64) for x in arrays if x.dtype.kind == "f"]
