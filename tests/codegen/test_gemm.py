"""Matrix products against NumPy: every layout, edge and flag, for the host and for a lesser CPU."""

from __future__ import annotations

import ctypes
import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import llvmlite.binding as llvm
import numpy as np
import pytest

from adjit.codegen.gemm import (
    ACCUMULATE,
    GEMM_LIBRARIES,
    SCRATCH,
    blocks_are_wide,
    emit_gemm_library,
    gemm_flags,
    gemm_scratch_bytes,
    gemm_workspace_bytes,
    product_symbols,
    scratch_allowed,
)
from adjit.codegen.gemm.variants import DOTS_A, REGISTER_TILES, SWAPPED, sizes_for
from adjit.codegen.llvm import Module
from adjit_runtime.target import Target, host_target, target_machine

I64, PTR = ctypes.c_int64, ctypes.c_void_p
EPILOGUE = ctypes.CFUNCTYPE(None, PTR, PTR, I64, I64, I64, I64, I64)
PRODUCT = ctypes.CFUNCTYPE(None, I64, I64, I64, PTR, I64, I64, PTR, I64, I64, PTR, I64, PTR, I64, PTR, PTR, PTR)
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
INTEGERS = (np.dtype(np.int32), np.dtype(np.int64))
LAYOUTS = ("NN", "NT", "TN", "TT")


@dataclass(frozen=True)
class Library:
    """The compiled library; keeps the engine that owns the code."""

    target: Target
    engine: object

    def address(self, symbol: str) -> int | None:
        return self.engine.get_function_address(symbol) if symbol else None


def suffix(dtype: np.dtype) -> str:
    return f"{dtype.kind}{dtype.itemsize * 8}"


@functools.cache
def load(target: Target) -> Library:
    module = Module("gemm")
    for name in GEMM_LIBRARIES:
        emit_gemm_library(module, target, name)
    machine = target_machine(target)
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    parsed.triple, parsed.data_layout = target.triple, str(machine.target_data)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine(target))
    engine.add_object_file(llvm.ObjectFileRef.from_data(machine.emit_object(parsed)))
    engine.finalize_object()
    return Library(target, engine)


def targets() -> list[str]:
    """The host, and AVX2 where the host is more."""
    return ["", "haswell"] if host_target().masks else [""]


@pytest.fixture(params=targets(), ids=lambda cpu: cpu or "host")
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Library:
    monkeypatch.setenv("ADJIT_CPU", request.param)
    return load(host_target())


@functools.cache
def workspace(nbytes: int) -> np.ndarray:
    raw = np.full(nbytes + 64, 0xFF, np.uint8)  # NaNs, should anything read what it has not written
    start = -raw.ctypes.data % 64
    return raw[start : start + nbytes]


def strides(array: np.ndarray) -> tuple[int, int]:
    return array.strides[0] // array.itemsize, array.strides[1] // array.itemsize


def multiply(
    library: Library,
    a: np.ndarray,
    b: np.ndarray,
    c: np.ndarray,
    flags: int = 0,
    epilogue: object = None,
    whole: tuple[int, int] | None = None,
) -> None:
    (m, k), n = a.shape, b.shape[1]
    flags |= gemm_flags(a.dtype, *(whole or (m, n)), k, strides(a), strides(b), library.target)
    space = workspace(gemm_workspace_bytes(a.dtype, m, n, k, library.target))
    # A part may end anywhere.
    symbol, edge = product_symbols(a.dtype, m, n, flags, library.target, unit=1 if whole else 0)
    PRODUCT(library.address(symbol))(
        *(m, n, k, a.ctypes.data, *strides(a), b.ctypes.data, *strides(b), c.ctypes.data, strides(c)[0]),
        *(space.ctypes.data, flags, library.address(edge), ctypes.cast(epilogue, PTR) if epilogue else None, None),
    )


def operand(rng: np.random.Generator, rows: int, columns: int, dtype: np.dtype, transposed: bool) -> np.ndarray:
    shape = (columns, rows) if transposed else (rows, columns)
    if dtype.kind == "f":
        array = rng.standard_normal(shape).astype(dtype)
    else:
        array = rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype)
    return array.T if transposed else array


def result(m: int, n: int, dtype: np.dtype, pad: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """C inside of a larger array, and the mask of what may not be written."""
    outer = np.full((m + 2, n + pad), 7, dtype)
    return outer, outer[1 : m + 1, 1 : n + 1]


def check(c: np.ndarray, a: np.ndarray, b: np.ndarray, old: np.ndarray | float = 0) -> None:
    if c.dtype.kind != "f":
        np.testing.assert_array_equal(c, a @ b + np.asarray(old, c.dtype))
        return
    exact = a.astype(np.longdouble) @ b.astype(np.longdouble) + old
    scale = np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64) + np.abs(old)
    # The bound of a chain of at most KC + k / KC roundings, with the usual square root for random signs, times 4.
    bound = 4 * np.finfo(c.dtype).eps * np.sqrt(a.shape[1] + 1) * scale
    assert (np.abs(c - exact) <= bound).all(), np.abs(c - exact).max()


def cases(sizes: tuple[int, ...]) -> Iterator[tuple[int, int, int]]:
    yield from itertools.product(sizes, repeat=3)


def untouched(outer: np.ndarray, m: int, n: int) -> bool:
    mask = np.ones(outer.shape, bool)
    mask[1 : m + 1, 1 : n + 1] = False
    return bool((outer[mask] == 7).all())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", FLOATS + INTEGERS, ids=suffix)
def test_small_shapes(library: Library, dtype: np.dtype, layout: str) -> None:
    rng = np.random.default_rng(0)
    for m, n, k in cases((0, 1, 2, 3, 7, 10, 17, 33)):
        a, b = operand(rng, m, k, dtype, layout[0] == "T"), operand(rng, k, n, dtype, layout[1] == "T")
        outer, c = result(m, n, dtype)
        multiply(library, a, b, c)
        check(c, a, b)
        assert untouched(outer, m, n)
        multiply(library, a, b, c, ACCUMULATE)
        assert untouched(outer, m, n)
        check(c, a, b, a @ b)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", FLOATS, ids=suffix)
@pytest.mark.parametrize(
    ("m", "n", "k"),
    [
        (65, 67, 61), (130, 100, 520), (145, 33, 700), (300, 17, 1100), (9, 2100, 40), (1, 300, 600), (300, 1, 1030),
        (1, 1, 3000), (250, 10, 128), (10, 250, 128), (100, 100, 1), (790, 800, 40), (261, 10, 1100), (10, 261, 1100),
        (70, 1024, 140), (131, 70, 64), (300, 150, 280),
    ],
)  # fmt: skip
def test_larger_shapes(library: Library, dtype: np.dtype, layout: str, m: int, n: int, k: int) -> None:
    rng = np.random.default_rng(1)
    a, b = operand(rng, m, k, dtype, layout[0] == "T"), operand(rng, k, n, dtype, layout[1] == "T")
    outer, c = result(m, n, dtype)
    multiply(library, a, b, c)
    check(c, a, b)
    multiply(library, a, b, c, ACCUMULATE)
    check(c, a, b, a @ b)
    assert untouched(outer, m, n)


@pytest.mark.parametrize("dtype", FLOATS + INTEGERS, ids=suffix)
@pytest.mark.parametrize(("m", "n", "k"), [(5, 6, 7), (40, 50, 60), (20, 1, 35), (1, 20, 35), (30, 10, 40)])
def test_any_strides(library: Library, dtype: np.dtype, m: int, n: int, k: int) -> None:
    rng = np.random.default_rng(2)
    big_a, big_b = operand(rng, 2 * m, 3 * k, dtype, False), operand(rng, 2 * k, 3 * n, dtype, False)
    views_a = [
        big_a[::2, ::3], big_a[m - 1 :: -1, :k], big_a[:m, k - 1 :: -1], big_a[::-2, ::-3],
        np.broadcast_to(big_a[0, :k], (m, k)), np.broadcast_to(big_a[:m, :1], (m, k)),
    ]  # fmt: skip
    views_b = [
        big_b[::2, ::3], big_b[k - 1 :: -1, :n], big_b[:k, n - 1 :: -1], big_b[::-2, ::-3],
        np.broadcast_to(big_b[0, :n], (k, n)), np.broadcast_to(big_b[:k, :1], (k, n)),
    ]  # fmt: skip
    for a, b in itertools.product(views_a, views_b):
        outer, c = result(m, n, dtype)
        multiply(library, a, b, c)
        check(c, a, b)
        assert untouched(outer, m, n)


@pytest.mark.parametrize("dtype", FLOATS, ids=suffix)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_reads_nothing_outside(library: Library, dtype: np.dtype, layout: str) -> None:
    """Operands that end where a page that cannot be read begins, and that begin where one ends."""
    mman = pytest.importorskip("mmap")
    page = mman.PAGESIZE
    libc = ctypes.CDLL(None)
    area = mman.mmap(-1, 66 * page)
    base = ctypes.addressof(ctypes.c_char.from_buffer(area))
    libc.mprotect.argtypes = (PTR, ctypes.c_size_t, ctypes.c_int)
    assert libc.mprotect(base, page, 0) == 0
    assert libc.mprotect(base + 65 * page, page, 0) == 0
    rng = np.random.default_rng(3)

    def placed(array: np.ndarray, at_end: bool) -> np.ndarray:
        start = base + 65 * page - array.nbytes if at_end else base + page
        memory = np.frombuffer((ctypes.c_char * array.nbytes).from_address(start), array.dtype)
        memory[:] = np.ravel(array, order="K")
        return memory.reshape(array.T.shape).T if array.flags.f_contiguous else memory.reshape(array.shape)

    for (m, n, k), at_end in itertools.product(
        [(1, 1, 1), (7, 5, 3), (9, 10, 21), (17, 34, 9), (1, 43, 19), (43, 1, 19), (50, 70, 90)], (False, True)
    ):
        a, b = operand(rng, m, k, dtype, layout[0] == "T"), operand(rng, k, n, dtype, layout[1] == "T")
        for guarded in "abc":
            c = np.zeros((m, n), dtype)
            a_used = placed(a, at_end) if guarded == "a" else a
            b_used = placed(b, at_end) if guarded == "b" else b
            c = placed(c, at_end) if guarded == "c" else c
            multiply(library, a_used, b_used, c)
            check(c, a, b)
    assert libc.mprotect(base, page, 3) == 0
    assert libc.mprotect(base + 65 * page, page, 3) == 0


IN_PLACE = [(dtype, False) for dtype in FLOATS + INTEGERS]
IN_SCRATCH = [(dtype, True) for dtype in FLOATS]


@pytest.mark.parametrize(("dtype", "scratch"), IN_PLACE + IN_SCRATCH)
@pytest.mark.parametrize(
    ("m", "n", "k"),
    [
        (1, 1, 1),
        (4, 8, 2),
        (7, 10, 100),
        (200, 300, 40),
        (300, 10, 30),
        (1, 500, 20),
        (500, 1, 20),
        (3, 5, 0),
        (400, 90, 7),
        (10, 32, 100),
        (250, 32, 300),
    ],
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_epilogue_blocks_partition(
    library: Library, dtype: np.dtype, scratch: bool, m: int, n: int, k: int, layout: str
) -> None:
    if scratch and not scratch_allowed(dtype, k, library.target):
        pytest.skip("a sum of so many terms is not taken at once")
    rng = np.random.default_rng(4)
    a, b = operand(rng, m, k, dtype, layout[0] == "T"), operand(rng, k, n, dtype, layout[1] == "T")
    outer, c = result(m, n, dtype)
    space = np.full(gemm_scratch_bytes(dtype, library.target) // dtype.itemsize if scratch else 1, 7, dtype)
    seen = np.zeros((m, n), int)
    values = np.zeros((m, n), dtype)
    order: list[tuple[int, ...]] = []

    @EPILOGUE
    def epilogue(_: int, tile: int, row: int, i0: int, i1: int, j0: int, j1: int) -> None:
        count = (i1 - i0 - 1) * row + j1 - j0
        flat = np.frombuffer((ctypes.c_char * (count * dtype.itemsize)).from_address(tile), dtype)
        block = np.lib.stride_tricks.as_strided(flat, (i1 - i0, j1 - j0), (row * dtype.itemsize, dtype.itemsize))
        values[i0:i1, j0:j1] = block
        seen[i0:i1, j0:j1] += 1
        order.append((i0, i1, j0, j1))

    if scratch:
        multiply(library, a, b, space.reshape(1, -1), SCRATCH, epilogue)
        assert (outer == 7).all()
    else:
        multiply(library, a, b, c, 0, epilogue)
        np.testing.assert_array_equal(c, values)
    assert (seen == 1).all()
    check(values, a, b)
    again, order[:] = list(order), []
    multiply(library, a, b, space.reshape(1, -1) if scratch else c, SCRATCH if scratch else 0, epilogue)
    assert again == order
    if blocks_are_wide(dtype, n, library.target):
        assert {(j0, j1) for _, _, j0, j1 in order} == {(0, n)}
    assert k < 40 or min(i1 - i0 for i0, i1, _, _ in order) <= m


def memory_used(library: Library, a: np.ndarray, b: np.ndarray, scratch: bool) -> tuple[bool, bool]:
    """Whether a product writes beyond its packing memory, and beyond its block or its result."""
    (m, k), n, dtype = a.shape, b.shape[1], a.dtype
    packing = gemm_workspace_bytes(dtype, m, n, k, library.target)
    block = gemm_scratch_bytes(dtype, library.target) if scratch else m * n * dtype.itemsize
    memory = np.full(64 + packing + block + 8192, 0xA5, np.uint8)
    start = -memory.ctypes.data % 64
    space, after = start + packing + 4096, start + packing + 4096 + block
    flags = (SCRATCH if scratch else 0) | gemm_flags(dtype, m, n, k, strides(a), strides(b), library.target)
    symbol, edge = product_symbols(dtype, m, n, flags, library.target)
    PRODUCT(library.address(symbol))(
        *(m, n, k, a.ctypes.data, *strides(a), b.ctypes.data, *strides(b), memory.ctypes.data + space, n),
        *(memory.ctypes.data + start, flags, library.address(edge), None, None),
    )
    return bool((memory[start + packing : space] != 0xA5).any()), bool((memory[after:] != 0xA5).any())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", FLOATS, ids=suffix)
def test_memory_that_is_set_aside_is_enough(library: Library, dtype: np.dtype, layout: str) -> None:
    """Parts of a product have such memory side by side: what one writes beyond its own is another one's."""
    sizes = sizes_for(dtype, library.target)
    rng = np.random.default_rng(11)
    shapes: list[tuple[int, int, int]] = []
    limits = [r + d for r, _ in sizes.block_columns for d in (-1, 0, 1)]
    for m in sorted({1, 2, 3, 5, 16, 18, 30, 31, 32, 33, 64, 100, *limits}):
        # Around the largest block that such rows may have, and thin.
        widths = {1, 3, 4, 5, 16, sizes.block // m - 1, sizes.block // m, sizes.block // m + sizes.columns}
        shapes += [(m, n, int(rng.integers(1, 40))) for n in sorted(widths) if 0 < n <= 1100]
    shapes += [(m, n, k) for m in (7, 13, 270, 601) for n in (1, 4, 7, 12, 15, 16) for k in (300, 4093, 4096)]
    shapes += [(n, m, k) for m, n, k in shapes[-72:]]
    # Packed on one side or both, with all that is left over of panels and blocks.
    sizes = (int(size) for size in np.exp(rng.uniform(np.log(90), np.log(700), 360)))
    shapes += list(zip(sizes, sizes, sizes, strict=True))
    for m, n, k in shapes:
        a, b = operand(rng, m, k, dtype, layout[0] == "T"), operand(rng, k, n, dtype, layout[1] == "T")
        scratch = scratch_allowed(dtype, k, library.target)
        assert memory_used(library, a, b, scratch) == (False, False), (m, n, k)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", FLOATS, ids=suffix)
@pytest.mark.parametrize(
    ("m", "n", "k"), [(64, 96, 100), (128, 10, 700), (10, 128, 700), (700, 1, 900), (1, 700, 900), (256, 300, 1030)]
)
def test_parts_have_the_bits_of_the_whole(
    library: Library, dtype: np.dtype, layout: str, m: int, n: int, k: int
) -> None:
    rng = np.random.default_rng(6)
    a, b = operand(rng, m, k, dtype, layout[0] == "T"), operand(rng, k, n, dtype, layout[1] == "T")
    whole, parts = np.zeros((m, n), dtype), np.zeros((m, n), dtype)
    multiply(library, a, b, whole)
    for rows, columns in ((m // 2, n), (m, max(1, n // 2)), (8, 32), (24, 5), (1, 7)):
        parts[:] = np.nan
        for i, j in itertools.product(range(0, m, max(1, rows)), range(0, n, columns)):
            part = parts[i : i + max(1, rows), j : j + columns]
            multiply(library, a[i : i + max(1, rows)], b[:, j : j + columns], part, whole=(m, n))
        np.testing.assert_array_equal(whole, parts)


def test_only_narrow_panels_need_what_computes_them() -> None:
    target = replace(host_target(), vector_bytes=32, masks=False)
    wide = replace(target, vector_bytes=64, masks=True)
    f32, f64 = FLOATS

    def edge(dtype: np.dtype, m: int, n: int, flags: int, target: Target, unit: int = 0) -> bool:
        return product_symbols(dtype, m, n, flags, target, unit)[1] == f"adjit_edge_{suffix(dtype)}"

    assert [edge(f32, 100, n, REGISTER_TILES, target) for n in (16, 32, 17, 31)] == [False, False, True, True]
    assert [edge(f64, 100, n, REGISTER_TILES, target) for n in (8, 16, 9, 15)] == [False, False, True, True]
    # With masks the widest panel has up to two vectors, from more than one on.
    assert [edge(f32, 100, n, REGISTER_TILES, wide) for n in (32, 49, 63, 48, 33)] == [False, False, False, True, True]
    assert [edge(f32, m, 10, SWAPPED, target) for m in (256, 250)] == [False, True]
    assert [edge(f32, 64, 64, REGISTER_TILES, target, unit) for unit in (32, 8)] == [False, True]
    assert not edge(f32, 100, 10, DOTS_A, target)


def test_blocks_follow_the_caches() -> None:
    target = replace(host_target(), l2=1 << 30, l3=1 << 32)
    for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
        large = sizes_for(dtype, target)
        small = sizes_for(dtype, replace(target, l2=64 << 10, l3=1 << 20))
        assert small.mc % small.rows == small.nc % small.columns == 0
        assert small.kc * small.mc * dtype.itemsize <= 32 << 10
        assert small.kc * small.nc * dtype.itemsize <= 512 << 10
        assert (small.kc, small.rows) == (large.kc, large.rows)
        assert sizes_for(dtype, replace(target, l2=0, l3=0)) == large


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_small_caches(dtype: type) -> None:
    library = load(replace(host_target(), l2=64 << 10, l3=256 << 10))
    rng = np.random.default_rng(8)
    for layout, (m, n, k) in itertools.product(("NN", "NT", "TN", "TT"), [(150, 333, 700), (200, 530, 300)]):
        a = operand(rng, m, k, np.dtype(dtype), layout[0] == "T")
        b = operand(rng, k, n, np.dtype(dtype), layout[1] == "T")
        outer, c = result(m, n, np.dtype(dtype))
        multiply(library, a, b, c)
        check(c, a, b)
        assert untouched(outer, m, n)
