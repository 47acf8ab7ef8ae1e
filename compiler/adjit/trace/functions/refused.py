"""NumPy functions and ufuncs that a traced program cannot use, each with the reason.

The reason ends the error's text, so it says what to write instead where something else works. Every function that
dispatches is implemented or stands here; a test walks them all.
"""

from __future__ import annotations

import numpy as np

from adjit.trace.table import refused

_SHAPE = "the shape of its result depends on values; a compiled program has static shapes"
_MASK = f"{_SHAPE}; write np.where(mask, x, 0) with three arguments, or np.sum(x, where=mask)"
_SPECTRAL = "Fourier transforms give complex numbers, which have no lowering"
_COMPLEX_EIGENVALUES = "eigenvalues of a matrix that is not symmetric are complex; np.linalg.eigh is for symmetric ones"
_COMPLEX = "complex numbers have no lowering"
_HOST = "it runs in Python on values, which a traced array does not have; call it outside of the traced function"
_SETS = f"{_SHAPE}; adjit.nn.unique(x, size) gives as many distinct elements as you say"
_HISTOGRAM = "histograms of several dimensions have no lowering yet; number the bins with np.digitize, then np.bincount"
_WRITE = "it writes into its argument by computed positions; use x[index] = value on a copy"
_VALUES = "its result depends on values in a way that cannot be traced"

FUNCTIONS: dict[str, str] = {
    "numpy.angle": _COMPLEX,
    "numpy.apply_along_axis": "it calls Python for each row; write the function for whole arrays",
    "numpy.apply_over_axes": "it calls Python for each axis; apply the reduction with axis=(...)",
    "numpy.argwhere": _MASK,
    "numpy.array2string": _HOST,
    "numpy.array_repr": _HOST,
    "numpy.array_str": _HOST,
    "numpy.busday_count": "dates have no lowering",
    "numpy.busday_offset": "dates have no lowering",
    "numpy.choose": "use np.select, or np.where",
    "numpy.compress": _MASK,
    "numpy.datetime_as_string": "dates have no lowering",
    "numpy.extract": _MASK,
    "numpy.fill_diagonal": "use np.where(np.eye(n, dtype=bool), value, x)",
    "numpy.flatnonzero": _MASK,
    "numpy.geomspace": "write np.exp(np.linspace(np.log(start), np.log(stop), num))",
    "numpy.histogram2d": _HISTOGRAM,
    "numpy.histogramdd": _HISTOGRAM,
    "numpy.i0": "the Bessel function has no lowering",
    "numpy.in1d": "NumPy takes it out; use np.isin",
    "numpy.intersect1d": _SETS,
    "numpy.is_busday": "dates have no lowering",
    "numpy.may_share_memory": "a traced array has no memory",
    "numpy.min_scalar_type": "it depends on values; name the dtype",
    "numpy.nanargmax": "it raises where a row is all NaN; use np.argmax(np.where(np.isnan(x), -np.inf, x))",
    "numpy.nanargmin": "it raises where a row is all NaN; use np.argmin(np.where(np.isnan(x), np.inf, x))",
    "numpy.nonzero": _MASK,
    "numpy.packbits": "it has no lowering",
    "numpy.piecewise": "it calls Python on masked parts; use np.select or np.where",
    "numpy.place": "write x = np.where(mask, value, x)",
    "numpy.poly": "it needs eigenvalues or roots; compute it outside of the traced function",
    "numpy.polydiv": "its shapes depend on leading zeros",
    "numpy.polyfit": "it has no lowering; np.linalg.lstsq(np.vander(x, degree + 1), y)[0] gives its coefficients",
    "numpy.polymul": "it drops leading zeros, so that its shape depends on values; use np.convolve",
    "numpy.put": _WRITE,
    "numpy.putmask": "use x[...] = np.where(mask, value, x) on a copy",
    "numpy.ravel_multi_index": "its bounds are checked in Python; write i * columns + j",
    "numpy.real_if_close": _COMPLEX,
    "numpy.roots": "it needs eigenvalues; compute it outside of the traced function",
    "numpy.save": _HOST,
    "numpy.savetxt": _HOST,
    "numpy.savez": _HOST,
    "numpy.savez_compressed": _HOST,
    "numpy.setdiff1d": _SETS,
    "numpy.setxor1d": _SETS,
    "numpy.shares_memory": "a traced array has no memory",
    "numpy.sort_complex": _COMPLEX,
    "numpy.trim_zeros": _SHAPE,
    "numpy.union1d": _SETS,
    "numpy.unique": _SETS,
    "numpy.unique_all": _SETS,
    "numpy.unique_counts": _SETS,
    "numpy.unique_inverse": _SETS,
    "numpy.unique_values": _SETS,
    "numpy.unpackbits": "it has no lowering",
    "numpy.unravel_index": "its bounds are checked in Python; write i // columns and i % columns",
    "numpy.linalg.eig": _COMPLEX_EIGENVALUES,
    "numpy.linalg.eigvals": _COMPLEX_EIGENVALUES,
    **{
        f"numpy.fft.{name}": _SPECTRAL
        for name in (
            "fft", "fft2", "fftn", "hfft", "ifft", "ifft2", "ifftn", "ihfft",
            "irfft", "irfft2", "irfftn", "rfft", "rfft2", "rfftn",
        )
    },
}  # fmt: skip
"""By module and name, for functions that dispatch through `__array_function__`."""

UFUNCS: dict[str, str] = {
    "bitwise_count": "it has no lowering",
    "frexp": "it has no lowering",
    "gcd": "it loops as long as values ask for, and has no lowering",
    "lcm": "it loops as long as values ask for, and has no lowering",
    "isnat": "dates have no lowering",
    "nextafter": "it has no lowering",
    "spacing": "it has no lowering",
}
"""By name, for ufuncs of NumPy."""


for _key, _reason in FUNCTIONS.items():
    *_path, _name = _key.split(".")
    _module = np.fft if "fft" in _path else np.linalg if "linalg" in _path else np
    if hasattr(_module, _name):
        refused(getattr(_module, _name), _reason)
for _key, _reason in UFUNCS.items():
    if hasattr(np, _key):
        refused(getattr(np, _key), _reason)
