"""Colours: every entry can be read from the products, for random patterns; stencils and arrowheads take few."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse

from adjit.sparse.colours import Pattern, colouring, star_colouring
from tests.sparse.dense import pattern_of_matrix


def pattern_from(matrix: scipy.sparse.sparray) -> Pattern:
    rows = scipy.sparse.csr_array(matrix)
    rows.sort_indices()
    return Pattern(rows.indptr.astype(np.int64), rows.indices.astype(np.int64), rows.shape[1])


def random_matrix(seed: int) -> np.ndarray:
    """Some entries, and some lines that are full."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 14, 2)
    there = rng.random((height, width)) < rng.random() ** 2
    for _ in range(rng.integers(0, 3)):
        there[rng.integers(height)] = True
    for _ in range(rng.integers(0, 3)):
        there[:, rng.integers(width)] = True
    return np.where(there, rng.normal(size=there.shape), 0.0)


def sums(x: np.ndarray, colours: np.ndarray, count: int) -> np.ndarray:
    """The sums of the columns of each colour, as rows."""
    return np.array([x[:, colours == colour].sum(axis=1) for colour in range(count)]).reshape(count, len(x))


@pytest.mark.parametrize("seed", range(200))
def test_every_entry_is_read(seed: int) -> None:
    x = random_matrix(seed)
    found = colouring(pattern_of_matrix(x))
    assert found.total <= min(x.shape)
    products = [sums(x, found.columns, found.forward).ravel(), sums(x.T, found.rows, found.reverse).ravel()]
    np.testing.assert_allclose(np.concatenate(products)[found.places], x[x != 0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("seed", range(200))
def test_every_entry_of_a_symmetric_matrix_is_read(seed: int) -> None:
    x = random_matrix(seed)
    n = min(x.shape)
    x = x[:n, :n] + x[:n, :n].T
    found = star_colouring(pattern_of_matrix(x))
    assert found.total <= n
    products = sums(x, found.columns, found.forward).ravel()
    np.testing.assert_allclose(products[found.places], x[x != 0], rtol=1e-12, atol=1e-12)


def test_symmetric_adds_what_is_across() -> None:
    x = random_matrix(3)[:5, :5]
    n = min(x.shape)
    pattern = pattern_of_matrix(x[:n, :n]).symmetric()
    expected = pattern_of_matrix(np.abs(x[:n, :n]) + np.abs(x[:n, :n].T))
    for one, other in zip(pattern, expected, strict=True):
        np.testing.assert_array_equal(one, other)


N = 3000


def tridiagonal(n: int) -> scipy.sparse.sparray:
    return scipy.sparse.diags_array([np.ones(n - 1), np.ones(n), np.ones(n - 1)], offsets=[-1, 0, 1])


def laplacian(n: int) -> scipy.sparse.sparray:
    eye = scipy.sparse.eye_array(n)
    return scipy.sparse.kron(eye, tridiagonal(n)) + scipy.sparse.kron(tridiagonal(n), eye)


def arrowhead(n: int) -> scipy.sparse.sparray:
    matrix = scipy.sparse.lil_array((n, n))
    matrix.setdiag(1)
    matrix[0, :] = matrix[:, 0] = 1
    return matrix


def test_stencils_take_as_many_as_they_have_points() -> None:
    assert colouring(pattern_from(tridiagonal(N))).total == 3
    assert star_colouring(pattern_from(tridiagonal(N))).total == 3
    assert colouring(pattern_from(laplacian(52))).total == 5
    assert star_colouring(pattern_from(laplacian(52))).total <= 5
    assert colouring(pattern_from(scipy.sparse.eye_array(N))).total == 1


def test_dense_lines_are_taken_apart() -> None:
    found = colouring(pattern_from(arrowhead(N)))
    assert (found.forward, found.reverse) == (2, 1)
    assert star_colouring(pattern_from(arrowhead(N))).total == 2
    wide = scipy.sparse.vstack([np.ones((2, N)), tridiagonal(N)])
    found = colouring(pattern_from(wide))
    assert (found.forward, found.reverse) == (3, 2)
    found = colouring(pattern_from(scipy.sparse.hstack([np.ones((N, 2)), tridiagonal(N)])))
    assert found.total == 5


def test_rows_where_they_take_less() -> None:
    found = colouring(pattern_from(scipy.sparse.csr_array(np.ones((2, N)))))
    assert (found.forward, found.reverse) == (0, 2)
    found = colouring(pattern_from(scipy.sparse.csr_array(np.ones((N, 2)))))
    assert (found.forward, found.reverse) == (2, 0)
    # Blocks of a row each: one product by rows, ten by columns.
    found = colouring(pattern_from(scipy.sparse.kron(scipy.sparse.eye_array(50), np.ones((1, 10)))))
    assert (found.forward, found.reverse) == (0, 1)


def test_nothing_to_colour() -> None:
    for shape in ((0, 0), (0, 3), (3, 0), (3, 4)):
        empty = pattern_of_matrix(np.zeros(shape))
        found = colouring(empty)
        assert (found.total, len(found.places)) == (0, 0)
    found = star_colouring(pattern_of_matrix(np.zeros((3, 3))))
    assert len(found.places) == 0
