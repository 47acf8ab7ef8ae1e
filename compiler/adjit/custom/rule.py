"""`custom_rule`: a function whose derivative is what the user says."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from adjit.custom import traced
from adjit.trace import current_trace
from adjit.trace.refuse import located
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError
from adjit_runtime.public import public, shorten


class CustomRule:
    """A function with rules for its derivative. `__wrapped__` is the function itself, `jvp` and `vjp` are the rules.
    Those that are `pure` read nothing but their arguments: for arguments of the same types a trace has their graphs
    once."""

    __wrapped__: Callable[..., Any]

    def __init__(
        self,
        function: Callable[..., Any],
        jvp: Callable[..., Any] | None,
        vjp: Callable[..., Any] | None,
        pure: bool = False,
    ) -> None:
        self.__name__ = str(getattr(function, "__name__", "function"))
        functools.update_wrapper(self, function, updated=())
        self.jvp, self.vjp, self.pure = jvp, vjp, pure
        self._signature = _signature(function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function; inside a traced one, with its rules."""
        try:
            if current_trace() is None:
                return self.__wrapped__(*args, **kwargs)
            return traced.run(self, self._bound(args, kwargs))
        except Exception as error:
            shorten(error)
            raise

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """As a method."""
        return self if instance is None else types.MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<custom_rule {self.__name__}>"

    def _bound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """The arguments by position, with defaults for those that were not given, as rules take them."""
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise located(ArgumentError, f"{self.__name__}: {error}") from None
        if bound.kwargs:
            raise located(
                ArgumentError,
                f"custom_rule: {self.__name__} takes {', '.join(bound.kwargs)} by name alone, and rules take the "
                "arguments by position: take the * out of its parameters",
            )
        bound.apply_defaults()
        return bound.args

    def parameter(self, number: int) -> str:
        """What an argument is called."""
        names = [
            name for name, p in self._signature.parameters.items() if p.kind is not inspect.Parameter.VAR_POSITIONAL
        ]
        return names[number] if number < len(names) else f"args[{number - len(names)}]"


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    """What a function takes; by position alone where that is not known, or is `out` of a ufunc."""
    try:
        if not isinstance(function, np.ufunc):
            return inspect.signature(function)
    except ValueError:
        pass
    return inspect.Signature([inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL)])


@public({"fun": "function", "func": "function", "f": "function", "defjvp": "jvp", "defvjp": "vjp",
         "fwd": "vjp, a function that returns (value, pullback)", "bwd": "vjp, which returns (value, pullback)",
         "forward": "vjp, a function that returns (value, pullback)",
         "backward": "vjp, which returns (value, pullback)",
         "nondiff_argnums": "numbers of Python, and what is no array, are known in rules anyhow"})  # fmt: skip
def custom_rule(
    function: Callable[..., Any] | None = None,
    jvp: Callable[..., Any] | None = None,
    vjp: Callable[..., Any] | None = None,
) -> Any:
    """`function` with rules for its derivative: what `adjit.jvp` and `adjit.vjp` of it are.

    `jvp(primals, tangents)` gives (value, tangent): primals is the tuple of all arguments, tangents has their
    structure, with floats in place of floats and zeros for what is none. The tangent is linear in them.
    `vjp(*primals)` gives (value, pullback), and `pullback(cotangent)` a tuple with a gradient for each argument; what
    the pullback reads of the arguments and of what was computed with them is kept for it. The gradient is linear in the
    cotangent. None stands for zeros, in tangents, gradients and parts of them. The value that a rule gives is that of
    the function.

    One of both is enough: the other mode takes its adjoint. With both, each mode takes its own. Second derivatives are
    those of the rules, which may call the function itself. `check_grads` says whether a rule is right.

        >>> import numpy as np, adjit
        >>> def log1pexp_vjp(x):
        ...     return log1pexp(x), lambda g: (g / (1 + np.exp(-x)),)
        >>> @adjit.custom_rule(vjp=log1pexp_vjp)
        ... def log1pexp(x):
        ...     return np.log(1 + np.exp(x))
        >>> float(adjit.grad(log1pexp)(100.0))
        1.0

    Called with plain values it is the function; inside a traced function function and rules are traced, at each call.
    Arguments are pytrees; rules get them by position, with their defaults. Numbers of Python that are known, and what
    is no array, are in function and rules what they are, so they may decide about shapes; they have no gradient. In
    function and rules arguments are not changed in place. Raises ArgumentError where there is no rule, and where one
    gives another structure, ShapeError and DTypeError where it gives other types, and TraceError where a derivative
    would need what the function reads from outside, or where a rule is not linear."""
    for what, rule in (("jvp", jvp), ("vjp", vjp)):
        if rule is not None:
            checks.function(f"custom_rule: {what}", rule)
    if jvp is None and vjp is None:
        raise ArgumentError("custom_rule: give a rule, jvp= or vjp= or both")
    if function is None:
        return functools.partial(_with_rules, jvp=jvp, vjp=vjp)
    return _with_rules(function, jvp, vjp)


def _with_rules(
    function: Callable[..., Any], jvp: Callable[..., Any] | None, vjp: Callable[..., Any] | None
) -> CustomRule:
    return CustomRule(checks.function("custom_rule: function", function), jvp, vjp)
