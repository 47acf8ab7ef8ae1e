"""Object files are linked as LLVM's own linker does it, and go with the last reference."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

import adjit
from adjit.codegen.objects import compile_text
from adjit_runtime import load
from adjit_runtime.errors import InternalError
from adjit_runtime.link import Image, is_linked_here
from adjit_runtime.load import Session, session
from adjit_runtime.target import host_target

TEXT = """
@table = internal constant [2 x ptr] [ptr @twice, ptr @offset]
@scale = internal constant <4 x double> <double 1.0, double 2.0, double 4.0, double 8.0>
@count = internal global i64 40
@zeros = internal global [3 x i64] zeroinitializer
declare i64 @imported(i64)
declare double @floor(double)
declare ptr @memset(ptr, i32, i64)

define internal i64 @twice(i64 %x) noinline {
  %y = mul i64 %x, 2
  ret i64 %y
}
define i64 @offset(i64 %x) noinline {
  %y = add i64 %x, 1000
  ret i64 %y
}
; A call of each of a table of functions, which has their addresses.
define i64 @by_table(i64 %i, i64 %x) {
  %p = getelementptr ptr, ptr @table, i64 %i
  %f = load ptr, ptr %p
  %y = call i64 %f(i64 %x)
  ret i64 %y
}
; What may be written: data, and zeros that the file does not have.
define i64 @next() {
  %n = load i64, ptr @count
  %m = add i64 %n, 1
  store i64 %m, ptr @count
  %z = getelementptr i64, ptr @zeros, i64 2
  %k = load i64, ptr %z
  %l = add i64 %k, 100
  store i64 %l, ptr %z
  %r = add i64 %m, %l
  ret i64 %r
}
define double @constants(i64 %i) {
  %v = load <4 x double>, ptr @scale
  %x = extractelement <4 x double> %v, i64 %i
  ret double %x
}
define i64 @calls(i64 %x) {
  %y = call i64 @imported(i64 %x)
  %z = call i64 @twice(i64 %y)
  ret i64 %z
}
define ptr @far(i64 %own) {
  %is = icmp ne i64 %own, 0
  %p = select i1 %is, ptr @offset, ptr @imported
  ret ptr %p
}
define double @rounded(double %x) {
  %y = call double @floor(double %x)
  ret double %y
}
"""
NAMES = ("by_table", "calls", "constants", "far", "next", "offset", "rounded")
UNARY = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not host_target().triple.startswith("x86_64"), reason="LLVM links for other systems"
)


def results(addresses: dict[str, int], imported: int) -> list[Any]:
    """What each function gives; whether an address is the right one in place of the address."""

    def function(name: str, result: Any, *args: Any) -> Any:
        return ctypes.CFUNCTYPE(result, *args)(addresses[name])

    i64, f64 = ctypes.c_int64, ctypes.c_double
    by_table, far = function("by_table", i64, i64, i64), function("far", ctypes.c_void_p, i64)
    following = function("next", i64)
    return [
        by_table(0, 21), by_table(1, 21), function("calls", i64, i64)(5),
        [function("constants", f64, i64)(i) for i in range(4)],
        far(1) == addresses["offset"], far(0) == imported,
        [following() for _ in range(3)], function("rounded", f64, f64)(-1.5),
    ]  # fmt: skip


def test_each_kind_of_reference_is_what_llvm_makes_of_it() -> None:
    code = compile_text(TEXT, host_target())
    callback = UNARY(lambda x: x + 7)
    imported = ctypes.cast(callback, ctypes.c_void_p).value
    assert imported is not None
    assert is_linked_here(code)
    image = Image(code, NAMES, {"imported": imported})
    tracker, addresses = Session()._linked_by_llvm(code, NAMES, {"imported": imported}, "references")
    wanted = [42, 1021, 24, [1.0, 2.0, 4.0, 8.0], True, True, [141, 242, 343], -2.0]
    assert results(image.addresses, imported) == wanted
    assert results(addresses, imported) == wanted
    del tracker


def test_workers_and_handlers_are_those_of_the_process_for_programs_of_all_targets() -> None:
    here = host_target()
    other = replace(here, l1=2 * here.l1)
    found = Session()
    for name in ("pool", "signals"):
        assert found.library(name, here) is found.library(name, other)
    assert found.library("gemm_f32", here) is not found.library("gemm_f32", other)


def test_each_image_has_data_of_its_own() -> None:
    code = compile_text(TEXT, host_target())
    images = [Image(code, ["next"], {"imported": 1 << 60}) for _ in range(2)]
    following = [ctypes.CFUNCTYPE(ctypes.c_int64)(image.addresses["next"]) for image in images]
    assert [f() for f in (*following, *following)] == [141, 141, 242, 242]


def test_code_is_not_written_and_data_not_executed() -> None:
    image = Image(compile_text(TEXT, host_target()), NAMES, {"imported": 0})
    assert rights(image.addresses["offset"]) == "r-xp"
    everything = set(map(rights, range(image.addresses["offset"] & -4096, end(image), 4096)))
    assert everything == {"r-xp", "rw-p"}


def end(image: Image) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(image._memory)) + len(image._memory)


def rights(address: int) -> str:
    """What the system lets one do at an address; empty where nothing is."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, last = (int(part, 16) for part in line.split()[0].split("-"))
        if first <= address < last:
            return line.split()[1]
    return ""


def test_the_memory_goes_with_the_image() -> None:
    code = compile_text(TEXT, host_target())
    image = Image(code, ["offset"], {"imported": 0})
    address = image.addresses["offset"]
    assert UNARY(address)(1) == 1001
    del image
    gc.collect()
    assert rights(address) != "r-xp"


@pytest.mark.parametrize(
    ("text", "exports", "message"),
    [
        ("declare i64 @nowhere_at_all()\ndefine i64 @f() {\n %x = call i64 @nowhere_at_all()\n ret i64 %x\n}", ["f"],
         "the code of x cannot be linked: there is no function nowhere_at_all"),
        ("define i64 @f() {\n ret i64 1\n}", ["g"], "there is no g in it"),
        ("@one = common global i64 0\ndefine i64 @f() {\n %x = load i64, ptr @one\n ret i64 %x\n}", ["f"],
         "one lies in no section that is loaded"),
        ("@own = thread_local global i64 3\ndefine i64 @f() {\n %x = load i64, ptr @own\n ret i64 %x\n}", ["f"],
         "a section of type 1 and flags 1027 is not known"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_refused(text: str, exports: list[str], message: str) -> None:
    with pytest.raises(InternalError, match=message):
        session()._link(compile_text(text, host_target()), tuple(exports), {}, "x")


def test_other_files_are_left_to_llvm() -> None:
    triple = "aarch64-unknown-linux-gnu"
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    module = llvm.parse_assembly("define i64 @f() {\n ret i64 1\n}", llvm.create_context())
    module.triple = triple
    other = llvm.Target.from_triple(triple).create_target_machine(jit=False).emit_object(module)
    assert not is_linked_here(other)
    assert not is_linked_here(b"")
    assert not is_linked_here(os.urandom(100))


def test_programs_run_as_llvm_links_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way, as on systems whose object files are not known here."""
    x = np.linspace(-2.0, 2.0, 60).reshape(12, 5)

    def loss(w: Any) -> Any:
        return np.mean(np.tanh(x @ w) ** 2)

    ours = adjit.value_and_grad(loss)(np.ones((5, 3)))
    monkeypatch.setattr(load, "is_linked_here", lambda code: False)
    monkeypatch.setattr(load, "_SESSIONS", {})
    theirs = adjit.value_and_grad(loss)(np.ones((5, 3)))
    assert ours[0] == theirs[0]
    np.testing.assert_array_equal(ours[1], theirs[1])
