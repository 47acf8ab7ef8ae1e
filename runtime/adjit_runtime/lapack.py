"""Where functions of LAPACK and BLAS lie: SciPy has them (extra `linalg`), compiled programs call them by address.

How many threads they use is a number of the process. A program sets it to one for the time of its calls, so that what
they give does not depend on it, and puts back what it was."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Any

from adjit_runtime.errors import MissingExtraError

_LAPACK = ("potrf", "getrf", "syevd", "gesdd", "geqrf", "orgqr")
_BLAS = ("trsm", "gemm")

_THREADS = {
    "adjit_set_blas_threads": "openblas_set_num_threads",
    "adjit_get_blas_threads": "openblas_get_num_threads",
}
"""By the name that programs have for it: how OpenBLAS calls what sets and gets the number of its threads."""


def require(what: str) -> None:
    """Raise MissingExtraError where SciPy is not installed; `what` needs it."""
    try:
        import scipy.linalg.cython_lapack  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            f"{what}: matrices of this size are LAPACK's, which comes with SciPy: pip install 'adjit[linalg]'"
        ) from error


@functools.cache
def addresses() -> dict[str, int]:
    """The address of each function, by the name that programs have for it."""
    require("a compiled program")
    from scipy.linalg import cython_blas, cython_lapack

    found = {}
    for module, names in ((cython_lapack, _LAPACK), (cython_blas, _BLAS)):
        capsules = module.__pyx_capi__
        for name in (f"{letter}{name}" for name in names for letter in "sd"):
            found[f"adjit_{name}"] = _address_in(capsules[name])
    return found | _threads()


def _threads() -> dict[str, int]:
    """Where the number of threads is set and asked for; for a BLAS that is not OpenBLAS `abs`, which does nothing."""
    import scipy

    package = Path(scipy.__file__).parent
    folders = (package.parent / "scipy.libs", package / ".dylibs", package / ".libs")
    for path in (path for folder in folders for path in folder.glob("*openblas*")):
        library = ctypes.CDLL(str(path))
        for prefix in ("scipy_", ""):
            if all(hasattr(library, prefix + name) for name in _THREADS.values()):
                return {own: _address_of(library, prefix + name) for own, name in _THREADS.items()}
    return dict.fromkeys(_THREADS, _address_of(ctypes.CDLL(None), "abs"))


def _address_of(library: ctypes.CDLL, name: str) -> int:
    return int(ctypes.cast(library[name], ctypes.c_void_p).value or 0)


def _address_in(capsule: Any) -> int:
    name_of, pointer_of = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return int(pointer_of(capsule, name_of(capsule)))
