"""Computes the polynomials of the vector mathematics and writes compiler/adjit/ops/mathematics/coefficients.py.

    python benchmarks/vector_math_coefficients.py

Each of PLANS is an interpolation of a *reduced residual* at the Chebyshev nodes of its interval, in 60 digits, then
rounded to float64: within a factor of about two of the minimax error. The leading terms of a function are pinned by the
code that uses the residual. Those of WEIGHTED and PIECES are minimax polynomials. The error reached, relative to what
the code computes from it (of PIECES the error itself), stands behind each.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import mpmath as mp
import numpy as np

mp.mp.dps = 60
TARGET = Path(__file__).resolve().parent.parent / "compiler/adjit/ops/mathematics/coefficients.py"


def fit(g: Callable[[mp.mpf], mp.mpf], low: float, high: float, degree: int) -> list[float]:
    """Monomial coefficients, lowest first, of the interpolant at the Chebyshev nodes."""
    a, b = mp.mpf(low), mp.mpf(high)
    nodes = [(a + b) / 2 + (b - a) / 2 * mp.cos(mp.pi * (2 * i + 1) / (2 * (degree + 1))) for i in range(degree + 1)]
    matrix = mp.matrix(degree + 1, degree + 1)
    for i, x in enumerate(nodes):
        for j in range(degree + 1):
            matrix[i, j] = x**j
    solution = mp.lu_solve(matrix, mp.matrix([g(x) for x in nodes]))
    return [float(c) for c in solution]


def minimax(
    g: Callable[[mp.mpf], mp.mpf],
    low: mp.mpf,
    high: mp.mpf,
    degree: int,
    weight: Callable[[mp.mpf], mp.mpf] = lambda x: mp.mpf(1),
) -> tuple[list[mp.mpf], mp.mpf]:
    """The polynomial of the least largest weighted error, in powers of the distance from the middle, and that middle:
    Remez' exchange on a grid (Muller, chapter 3)."""
    middle, half = (low + high) / 2, (high - low) / 2
    grid = [mp.cos(mp.pi * i / 600) for i in reversed(range(601))]
    values = [g(middle + half * t) for t in grid]
    weights = [weight(middle + half * t) for t in grid]
    at = [round(600 * i / (degree + 1)) for i in range(degree + 2)]
    coefficients: list[mp.mpf] = []
    for _ in range(40):
        rows = [[*(grid[i] ** j for j in range(degree + 1)), (-1) ** n / weights[i]] for n, i in enumerate(at)]
        matrix = mp.matrix(rows)
        coefficients = list(mp.lu_solve(matrix, mp.matrix([values[i] for i in at])))[:-1]
        rest = [(mp.polyval(coefficients[::-1], t) - y) * w for t, y, w in zip(grid, values, weights, strict=True)]
        # The largest error of each run of one sign.
        runs = [list(run) for _, run in itertools.groupby(enumerate(rest), lambda there: there[1] > 0)]
        peaks = [max(run, key=lambda there: abs(there[1]))[0] for run in runs]
        if len(peaks) != len(at) or peaks == at:
            break
        at = peaks
    return [c / half**j for j, c in enumerate(coefficients)], middle


def error(g: Callable[[mp.mpf], mp.mpf], coefficients: list[float], low: float, high: float, weight: Callable) -> float:
    """The largest weighted error on a fine grid."""
    worst = mp.mpf(0)
    for i in range(401):
        x = mp.mpf(low) + (mp.mpf(high) - mp.mpf(low)) * i / 400
        if x == 0:
            continue
        approximation = sum(mp.mpf(c) * x**j for j, c in enumerate(coefficients))
        worst = max(worst, abs((approximation - g(x)) * weight(x)))
    return float(worst)


def exp_residual(r: mp.mpf) -> mp.mpf:
    # A node may lie at 0.
    return (mp.expm1(r) - r) / r**2 if abs(r) > 1e-20 else mp.mpf(1) / 2


def log_residual(z: mp.mpf) -> mp.mpf:
    s = mp.sqrt(z)
    return ((mp.log1p(s) - mp.log1p(-s)) / s - 2) / z


def at_root(f: Callable[[mp.mpf], mp.mpf]) -> Callable[[mp.mpf], mp.mpf]:
    """(f(x) / x - 1) / x^2 as a function of z = x^2."""

    def g(z: mp.mpf) -> mp.mpf:
        x = mp.sqrt(z)
        return (f(x) / x - 1) / z

    return g


LN2_HALF = float(mp.log(2) / 2) * 1.0001
QUARTER = float((mp.pi / 4) ** 2) * 1.0001
PLANS: dict[str, tuple[Callable[[mp.mpf], mp.mpf], float, float, int, Callable]] = {
    "EXP64": (exp_residual, -LN2_HALF, LN2_HALF, 10, lambda r: r * r),
    "EXP32": (exp_residual, -LN2_HALF, LN2_HALF, 4, lambda r: r * r),
    "LOG64": (log_residual, 0.0, 0.02945, 7, lambda z: z),
    "LOG32": (log_residual, 0.0, 0.02945, 3, lambda z: z),
    "LOG_TAIL": (lambda z: (log_residual(z) - mp.mpf(2) / 3) / z, 0.0, 0.02945, 7, lambda z: z * z),
    "SIN64": (at_root(mp.sin), 0.0, QUARTER, 7, lambda z: z),
    "COS64": (lambda z: (mp.cos(mp.sqrt(z)) - 1 + z / 2) / z**2, 0.0, QUARTER, 7, lambda z: z * z),
    "SIN32": (at_root(mp.sin), 0.0, QUARTER, 3, lambda z: z),
    "COS32": (lambda z: (mp.cos(mp.sqrt(z)) - 1 + z / 2) / z**2, 0.0, QUARTER, 3, lambda z: z * z),
    "ATAN64": (at_root(mp.atan), 0.0, 0.1716, 12, lambda z: z),
    "ATAN32": (at_root(mp.atan), 0.0, 0.1716, 4, lambda z: z),
    "ASIN32": (at_root(mp.asin), 0.0, 0.25, 5, lambda z: z),
    "ASIN64": (at_root(mp.asin), 0.0, 0.25, 14, lambda z: z),
    "TANH64_NEAR": (at_root(mp.tanh), 0.0, 0.3025, 11, lambda z: z),
    "CBRT": (mp.cbrt, 1.0, 2.0, 9, lambda x: 1 / mp.cbrt(x)),
}


WEIGHTED: dict[str, tuple[Callable[[mp.mpf], mp.mpf], float, float, int, float, Callable[[mp.mpf], mp.mpf]]] = {
    "ERF64_NEAR": (lambda z: mp.erf(mp.sqrt(z)) / mp.sqrt(z) - 1, 1e-30, 1.0, 11, 0.0, lambda z: mp.mpf(1)),
    "ERFCX64": (lambda x: mp.erfc(x) * mp.exp(x * x), 1.0, 5.95, 20, 3.5, lambda x: mp.exp(-x * x)),
}
"""Minimax polynomials: function, interval, degree, origin, and what an error counts (special.erf_by_exp)."""


def tanh_edges(last: float) -> list[float]:
    """Where 2 + 30 a / last passes a number of two bits: elementary.tanh chooses the piece by those bits."""
    return [0.0, *((t - 2.0) * last / 30.0 for t in (3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0))]


PIECES: dict[str, tuple[Callable[[mp.mpf], mp.mpf], int, list[float]]] = {
    "ERF64": (mp.erf, 13, [0.0, *(8.0 - (64.0 - 8.0 * (i + 0.5)) ** 0.5 for i in range(8))]),
    "ERF32": (mp.erf, 6, [0.0, *((i + 0.5) / 1.9 for i in range(8))]),
    "TANH64": (mp.tanh, 17, tanh_edges(19.1)),
    "TANH32": (mp.tanh, 6, tanh_edges(9.03)),
}
"""Odd functions in eight pieces: the degree of each, and where they meet. special.erf and elementary.tanh choose."""


def moved(coefficients: list[mp.mpf], by: mp.mpf) -> list[mp.mpf]:
    """The same polynomial in powers of the distance from a place further on."""
    result = list(coefficients)
    for i in range(len(result) - 1):
        for j in reversed(range(i, len(result) - 1)):
            result[j] += by * result[j + 1]
    return result


def in_pieces(name: str) -> tuple[list[float], list[list[float]], float]:
    """Where each piece has its origin, its coefficients, and the largest error. An origin has few bits, so that
    distances are exact, and the polynomial there is almost a number of the dtype (Gal's way): its rounding does not
    count. The first piece, where the function is 0, has the least relative error."""
    f, degree, edges = PIECES[name]
    as_number, grid = (float, 2**20) if name.endswith("64") else (lambda x: float(np.float32(float(x))), 2**12)
    # The choice of a piece is rounded, so that it may reach a little further.
    more = mp.mpf("1e-6")
    slope, middle = minimax(lambda h: f(h) / h, mp.mpf("1e-30"), edges[1] + more, degree - 1)
    centres, pieces = [0.0], [[mp.mpf(0), *moved(slope, -middle)]]
    for low, high in itertools.pairwise(edges[1:]):
        piece, middle = minimax(f, low - more, high + more, degree)
        candidates = [mp.mpf(round(middle * grid) + i) / grid for i in range(-30, 31)]
        shifted = {c: moved(piece, c - middle) for c in candidates}
        centre = min(candidates, key=lambda c: abs(shifted[c][0] - as_number(shifted[c][0])))
        centres.append(float(centre))
        pieces.append(shifted[centre])
    worst = 0.0
    for (low, high), centre, piece in zip(itertools.pairwise(edges), centres, pieces, strict=True):

        def there(h: mp.mpf, centre: float = centre) -> mp.mpf:
            return f(centre + h)

        piece[0] = mp.mpf(as_number(piece[0]))
        worst = max(worst, error(there, piece, low - more - centre, high + more - centre, lambda h: 1))
    return centres, [[float(c) for c in piece] for piece in pieces], worst


def parts(value: mp.mpf, count: int, bits: int | None = None, single: bool = False) -> list[float]:
    """A constant as a sum of float64s, or of float32s; the first ones cut to `bits` bits."""
    result = []
    for _ in range(count):
        part = float(np.float32(float(value))) if single else float(value)
        if bits is not None and len(result) < count - 1:
            exponent = mp.frexp(value)[1]
            part = float(mp.floor(value * mp.mpf(2) ** (bits - exponent)) / mp.mpf(2) ** (bits - exponent))
        result.append(part)
        value -= mp.mpf(part)
    return result


def chunks() -> list[float]:
    """2 / pi in pieces of 24 bits, each a float64 at its place, times 2^256: the last ones would underflow."""
    rest = 2 / mp.pi
    result = []
    for k in range(50):
        piece = mp.floor(rest * mp.mpf(2) ** (24 * (k + 1)))
        result.append(float(piece / mp.mpf(2) ** (24 * (k + 1) - 256)))
        rest -= piece / mp.mpf(2) ** (24 * (k + 1))
    return result


def main() -> None:
    lines = [
        '"""Polynomials and constants of the vector mathematics, lowest power first, each with the error it reaches.',
        "",
        'Written by benchmarks/vector_math_coefficients.py, which says what each approximates."""',
        "",
        "# fmt: off",
    ]
    for name, (g, low, high, degree, weight) in PLANS.items():
        safe_low = low if low else 1e-30
        coefficients = fit(g, safe_low, high, degree)
        reached = error(g, coefficients, safe_low, high, weight)
        lines.append(f"{name} = (  # {reached:.1e} on [{low:.6g}, {high:.6g}]")
        lines += [f"    {c!r}," for c in coefficients]
        lines.append(")")
    for name, (g, low, high, degree, origin, weight) in WEIGHTED.items():
        found, middle = minimax(g, mp.mpf(low), mp.mpf(high), degree, weight)
        coefficients = [float(c) for c in moved(found, mp.mpf(origin) - middle)]

        def there(h: mp.mpf, g: Callable[[mp.mpf], mp.mpf] = g, origin: float = origin) -> mp.mpf:
            return g(origin + h)

        def counts(h: mp.mpf, weight: Callable[[mp.mpf], mp.mpf] = weight, origin: float = origin) -> mp.mpf:
            return weight(origin + h)

        reached = error(there, coefficients, low - origin, high - origin, counts)
        lines.append(
            f"{name} = (  # {reached:.1e} on [{low:.6g}, {high:.6g}], powers of the distance from {origin:.6g}"
        )
        lines += [f"    {c!r}," for c in coefficients]
        lines.append(")")
    for name in PIECES:
        centres, pieces, reached = in_pieces(name)
        lines.append(f"{name}_CENTRES = (")
        lines += [f"    {c!r}," for c in centres]
        lines += [")", f"{name} = (  # {reached:.1e}, a row for each power"]
        for row in zip(*pieces, strict=True):
            halves = [", ".join(map(repr, half)) for half in (row[:4], row[4:])]
            lines += ["    (", *(f"        {half}," for half in halves), "    ),"]
        lines.append(")")
    mp.mp.dps = 400
    constants = {
        "LN2": parts(mp.log(2), 2, 32),
        "LN2_F32": [float(mp.mpf(float(int(float(mp.log(2)) * 2**15)) / 2**15)), 0.0],
        "LN2_WIDE": parts(mp.log(2), 3),
        "LOG2E": parts(1 / mp.log(2), 2),
        "LOG10E": parts(1 / mp.log(10), 2),
        "LOG10_2": parts(mp.log10(2), 2, 32),
        "PI_2": parts(mp.pi / 2, 3),
        "CBRT_2": [float(mp.cbrt(mp.mpf(2) ** i)) for i in (-1, 1)],
        "LN2_WIDE_F32": parts(mp.log(2), 2, single=True),
        "LOG2E_F32": parts(1 / mp.log(2), 2, single=True),
        "LOG10E_F32": parts(1 / mp.log(10), 2, single=True),
        "LOG10_2_F32": parts(mp.log10(2), 2, 15, single=True),
        "PI_2_F32": parts(mp.pi / 2, 3, single=True),
        "TWO_OVER_PI": chunks(),
    }
    lines.append(f"TWO_OVER_PI_ALL = {float(2 / mp.pi)!r}")
    first = constants["LN2_F32"][0]
    constants["LN2_F32"][1] = float(mp.log(2) - mp.mpf(first))
    for name, values in constants.items():
        lines.append(f"{name} = (")
        lines += [f"    {v!r}," for v in values]
        lines.append(")")
    TARGET.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
