"""The callee is read from the user's bytecode: found however the call is written, and never where code in C calls."""

from __future__ import annotations

import functools
import sys
import types
from typing import Any

import pytest

from adjit.trace import callee

SEEN: list[bool] = []


class Seen:
    """Notes whether its caller's bytecode names it."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        SEEN.append(callee.called(sys._getframe(1)) is self)
        return self

    def __getitem__(self, key: Any) -> Any:
        SEEN.append(callee.called(sys._getframe(1)) is self)
        return 1


def noted(x: int) -> int:
    """A function of Python, whose caller's frame is past the call already in some versions."""
    SEEN.append(callee.called(sys._getframe(1)) is noted)
    return x


module: Any = types.ModuleType("module")
module.noted = noted
module.f = Seen()
module.r_ = Seen()
module.inner = types.ModuleType("inner")
module.inner.g = Seen()


class Holder:
    """An object with the module as an attribute."""


# fmt: off
def direct_calls(x: int) -> None:
    alias, holder = module.f, Holder()
    holder.xp = module  # type: ignore[attr-defined]
    module.f(1)
    module.f(1 if x else 2, k=[a for a in (1, 2)])  # noqa: C416
    module.f("".join(["a", "b"]), ((1, 2), [3])[0], k=3)
    module.inner.g(x)
    alias(1)
    holder.xp.f(3)  # type: ignore[attr-defined]
    module.f(*[1])
    module.f(a=1)
    module.f(*[1], a=1)
    module.r_[1, 2]
    module.r_[0:3, x]
    (module
        .f(
            2))
    module.f(
        x,
        y=module.f(3),
    )
    [module.f(i) for i in range(2)]

    def closed_over() -> Any:
        return module.f(alias(1))

    closed_over()
    for i in range(2):
        x = x + 1 if module.f(i) else module.f(2)
    (lambda q: module.f(q))(1)
    module.f(1) + module.f(2) if x < 0 else module.f(3)
# fmt: on


def calls_of_python(x: int) -> None:
    noted(x)
    module.noted(noted(1))
    [module.noted(i) for i in range(2)]


def calls_by_code_in_c(x: int) -> None:
    list(map(module.f, [x]))
    functools.reduce(lambda a, b: a, map(module.f, [1, 2]))
    sorted([1, 2], key=lambda i: 0 if i is module.f else 1)
    next(map(module.f, "a"))
    [*map(module.f, "ab")]


@pytest.mark.parametrize(
    ("function", "count", "found"),
    [(direct_calls, 22, True), (calls_of_python, 5, True), (calls_by_code_in_c, 6, False)],
)
def test_the_callee(function: Any, count: int, found: bool) -> None:
    SEEN.clear()
    function(1)
    assert [found] * count == SEEN


def test_calls_that_the_interpreter_has_specialised() -> None:
    """After some rounds Python calls classes and builtins by other instructions, which may stand elsewhere."""
    seen: list[Any] = []

    class Number:
        def __float__(self) -> float:
            seen.append(callee.called(sys._getframe(1)))
            return 1.0

        def __len__(self) -> int:
            seen.append(callee.called(sys._getframe(1)))
            return 1

        def __iter__(self) -> Any:
            seen.append(callee.called(sys._getframe(1)))
            return iter(())

    x, wanted = Number(), []
    for _ in range(100):
        float(x)
        len(x)
        list(x)
        "".join(x)
        wanted += [float, len, list, list, None]
    # list asks for the length, too; a method of a constant has no path.
    assert seen == wanted
