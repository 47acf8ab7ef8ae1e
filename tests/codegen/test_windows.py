"""Contractions of windows in machine code: read where they lie, in every layout, on any number of threads."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from adjit.codegen.cuts import cut_of
from adjit.ir.text import parse
from adjit.schedule.work import Product
from adjit_runtime.target import Target, host_target
from tests.codegen.running import Ran
from tests.codegen.test_scans import same, works
from tests.ops.test_compiled import targets
from tests.schedule.texts import assert_comes_back

LAST = """
graph @conv(%x: T[N,H,W,C], %w: T[I,J,C,F], %b: T[F], %g: T[N,Y,X,F]) -> (T[N,Y,X,F], T[I,J,C,F]) {
  %0 = windows %x axes=(1,2) size=(I,J) step=(S,S) dilation=(D,D) : T[N,Y,X,C,I,J]
  %1 = contract %0, %w [nhwcij,ijcf->nhwf] : T[N,Y,X,F]
  %2 = broadcast %b shape=(N,Y,X,F) axes=(3) : T[N,Y,X,F]
  %3 = add %1, %2 : T[N,Y,X,F]
  %4 = tanh %3 : T[N,Y,X,F]
  %5 = contract %0, %g [nhwcij,nhwf->ijcf] : T[I,J,C,F]
  return %4, %5
}"""
FIRST = """
graph @conv(%x: T[N,C,H,W], %w: T[F,C,I,J], %b: T[F], %g: T[N,F,Y,X]) -> (T[N,F,Y,X], T[F,C,I,J]) {
  %0 = windows %x axes=(2,3) size=(I,J) step=(S,S) dilation=(D,D) : T[N,C,Y,X,I,J]
  %1 = contract %0, %w [nchwij,fcij->nfhw] : T[N,F,Y,X]
  %2 = broadcast %b shape=(N,F,Y,X) axes=(1) : T[N,F,Y,X]
  %3 = add %1, %2 : T[N,F,Y,X]
  %4 = tanh %3 : T[N,F,Y,X]
  %5 = contract %0, %g [nchwij,nfhw->fcij] : T[F,C,I,J]
  return %4, %5
}"""
# Images, height, width, channels, outputs, kernel, step, dilation.
SIZES = [
    (4, 12, 10, 5, 7, 3, 3, 1, 1),
    (4, 12, 10, 5, 7, 3, 3, 2, 1),
    (2, 12, 10, 5, 17, 3, 2, 1, 2),
    (3, 9, 9, 1, 6, 5, 5, 1, 1),
    (1, 20, 40, 16, 33, 3, 3, 1, 1),
    (2, 8, 8, 64, 64, 1, 1, 1, 1),
    (2, 9, 33, 3, 64, 3, 1, 1, 1),
    (2, 9, 9, 3, 2, 3, 3, 1, 1),
    (0, 9, 9, 3, 4, 3, 3, 1, 1),
]


def conv(text: str, sizes: tuple[int, ...], dtype: str) -> str:
    n, h, w, c, f, i, j, s, d = sizes
    y, x = ((extent - (k - 1) * d - 1) // s + 1 for extent, k in ((h, i), (w, j)))
    numbers = {"N": n, "H": h, "W": w, "C": c, "F": f, "I": i, "J": j, "S": s, "D": d, "Y": y, "X": x}
    for letter, number in numbers.items():
        for before, after in itertools.product("[,(", "],)"):
            text = text.replace(f"{before}{letter}{after}", f"{before}{number}{after}")
            # Neighbours share a comma.
            text = text.replace(f"{before}{letter}{after}", f"{before}{number}{after}")
    return text.replace("T[", f"{dtype}[")


def inputs_of(text: str) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [np.asarray(rng.normal(size=node.shape) * 0.3, node.dtype) for node in parse(text).inputs]


@pytest.mark.parametrize("target", targets(), ids=lambda target: target.cpu)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("layout", [LAST, FIRST], ids=["last", "first"])
@pytest.mark.parametrize("sizes", SIZES)
def test_convolutions(sizes: tuple[int, ...], layout: str, dtype: str, target: Target) -> None:
    text = conv(layout, sizes, dtype)
    ran = same(parse(text), inputs_of(text), target=target)
    assert_comes_back(ran.lowered.plan, target)


@pytest.mark.parametrize("layout", [LAST, FIRST], ids=["last", "first"])
def test_no_window_is_an_array(layout: str) -> None:
    text = conv(layout, (4, 18, 20, 16, 32, 3, 3, 1, 1), "f32")
    plan = same(parse(text), inputs_of(text)).lowered.plan
    products = [work for work in works(plan) if isinstance(work, Product)]
    assert [bool(work.runs) for work in products] == [True, True]
    # Four images of 16 channels, or of 32 results, in another layout, are the most.
    assert max((buffer.size for buffer in plan.buffers if buffer.slot is None), default=0) <= 4 * 18 * 20 * 32


@pytest.mark.parametrize(
    "sizes", [(8, 18, 20, 16, 32, 3, 3, 1, 1), (3, 40, 40, 16, 16, 3, 3, 1, 1), (2, 33, 60, 3, 64, 3, 1, 1, 1)]
)
def test_the_same_bits_on_threads(sizes: tuple[int, ...]) -> None:
    text = conv(LAST, sizes, "f32")
    graph, inputs = parse(text), inputs_of(text)
    whole = same(graph, inputs)
    assert all(cut_of(work, host_target()) for work in works(whole.lowered.plan) if isinstance(work, Product))
    for threads, order in itertools.product((2, 3), ("forward", "backward")):
        for found, wanted in zip(Ran(graph, inputs, threads=threads, order=order).outputs, whole.outputs, strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_windows_of_a_loop() -> None:
    """A filter in each turn, and its adjoint: small bodies stay in registers."""
    text = """
    graph @filtered(%c: f64[12], %x: f64[5,12], %w: f64[3]) -> (f64[12], f64[5,12]) {
      %0 = scan %c, %x, %w length=5 carried=1 sliced=1 body=
      graph @turn(%c: f64[12], %x: f64[12], %w: f64[3]) -> (f64[12], f64[12]) {
        %0 = pad %c low=(1) high=(1) interior=(0) value=0.0 : f64[14]
        %1 = windows %0 axes=(0) size=(3) step=(1) dilation=(1) : f64[12,3]
        %2 = contract %1, %w [ij,j->i] : f64[12]
        %3 = broadcast %x shape=(12,3) axes=(0) : f64[12,3]
        %4 = add_windows %3 axes=(0) extents=(14) step=(1) dilation=(1) : f64[14]
        %5 = slice %4 start=(1) stop=(13) step=(1) : f64[12]
        return %2, %5
      } : (f64[12], f64[5,12])
      %1 = item %0 index=0 : f64[12]
      %2 = item %0 index=1 : f64[5,12]
      return %1, %2
    }"""
    same(parse(text), inputs_of(text))
