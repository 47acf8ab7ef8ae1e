"""Every exception that adjit raises on purpose.

All are `AdjitError`s, and each is also the built-in exception that NumPy would raise in its place. A user's
mistake and a fault of the compiler (`InternalError`) are different classes. `TraceError` is no `TypeError`:
NumPy swallows or replaces those that reach it from a protocol method.
"""

from __future__ import annotations

import builtins

import numpy as np


class AdjitError(Exception):
    """The root of the family."""


class ShapeError(AdjitError, ValueError):
    """Shapes that do not fit each other, or an axis that is not there."""


class DTypeError(AdjitError, TypeError):
    """A dtype that an operation does not take, or for which no machine code exists."""


class IndexOutOfRange(AdjitError, IndexError):
    """An index outside its axis, found before anything of a state was written."""


class TraceError(AdjitError):
    """Something in a traced function that cannot be compiled; the text says what to write instead."""


class StateError(AdjitError, RuntimeError):
    """A state that is closed, busy in another thread, torn by a fork, or that does not fit its step."""


class ArgumentError(AdjitError, TypeError):
    """An argument that a compiled function cannot take: a missing or unknown name, a changed tree, a foreign object."""


class WeakOverflowError(AdjitError, OverflowError):
    """A Python integer that does not fit the dtype of the array that it meets, or the 64 bits it is computed in."""


class DivisionByZero(AdjitError, ZeroDivisionError):
    """A quotient or remainder of Python integers by zero, found when the program ran."""


class DomainError(AdjitError, ValueError):
    """An integer that an operation does not take: a negative exponent, a negative shift; found when the program ran."""


class ConvergenceError(AdjitError, RuntimeError):
    """An iteration that did not come to its end in the steps that it has, found when the program ran."""


class LinAlgError(AdjitError, np.linalg.LinAlgError):
    """A matrix that is singular, or not positive definite, or whose eigenvalues do not converge; found when the program
    ran."""


class OutOfMemory(AdjitError, MemoryError):
    """More memory is needed than there is to be had."""


class FormatError(AdjitError, ValueError):
    """Text or a file that cannot be read back: a parse error, a damaged checkpoint."""


class FileMissing(AdjitError, FileNotFoundError):
    """A file that is to be read is not there, or the folder of one that is to be written."""


class MissingExtraError(AdjitError, ImportError):
    """A package is needed and is not installed, or too old; the text names it, or its extra."""


class InternalError(AdjitError):
    """A fault of the compiler, never of the user; carries the graph and the pass."""


class NotFiniteError(AdjitError, FloatingPointError):
    """A loss that is NaN or infinite, in a run that was told to stop there; `losses` has those until then."""


class DerivativeError(AdjitError, AssertionError):
    """A derivative that differences of values do not confirm."""


def __getattr__(name: str) -> type[AdjitError]:
    """A class of the family that is also an exception of Python's own, `errors.ValueError`: that of an `assert` or
    `raise` in a compiled function."""
    found = getattr(builtins, name, None)
    if not isinstance(found, type) or not issubclass(found, Exception):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    made = type(name, (AdjitError, found), {"__module__": __name__, "__doc__": found.__doc__})
    return globals().setdefault(name, made)  # type: ignore[no-any-return]


class NotFiniteWarning(RuntimeWarning):
    """A loss has become NaN or infinite in a run; the text names the step."""


class WideningWarning(UserWarning):
    """An array of float32 or less met a float64 and the result is float64, as NumPy has it."""


class SignaturesWarning(UserWarning):
    """A function has been compiled for many signatures; the text names what varies among them."""
