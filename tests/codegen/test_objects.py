"""Object code: the same from several threads at once, and the interpreter as it was when a compilation is over."""

from __future__ import annotations

import gc
import sys
import threading

import numpy as np
import pytest

import adjit
from adjit.codegen.interpreter import undisturbed
from adjit.codegen.light import light_kernels
from adjit.codegen.objects import compile_text
from adjit.ir.builder import Builder
from adjit.ir.subscripts import Subscripts
from adjit.ir.types import Array
from adjit_runtime.errors import InternalError
from adjit_runtime.target import host_target
from tests.codegen.running import Lowered


def text(number: int) -> str:
    """A function with some hundred instructions."""
    lines = [f"  %v{i + 1} = add i64 %v{i}, {number + i}" for i in range(300)]
    return "\n".join([f"define i64 @f{number}(i64 %v0) {{", *lines, "  ret i64 %v300", "}"])


def test_threads_generate_the_same_code_at_once() -> None:
    target = host_target()
    alone = [compile_text(text(number), target) for number in range(4)]
    together: dict[int, bytes] = {}

    def work(number: int) -> None:
        together[number] = compile_text(text(number), target)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[number] for number in range(4)] == alone


def test_text_that_does_not_hold_is_a_fault_of_the_compiler() -> None:
    with pytest.raises(InternalError, match="is invalid"):
        compile_text("define void @f() { ret i64 0 }", host_target())


def test_code_is_made_where_there_is_no_thread_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert compile_text("define void @f() { ret void }", host_target())


@pytest.mark.parametrize("collects", [True, False])
def test_the_interpreter_is_set_back(collects: bool) -> None:
    interval, was_on = sys.getswitchinterval(), gc.isenabled()

    @adjit.jit
    def wrong(x: np.ndarray) -> np.ndarray:
        assert not gc.isenabled()
        return x @ x[:2]

    try:
        (gc.enable if collects else gc.disable)()
        assert undisturbed(undisturbed, gc.isenabled) is False
        assert gc.isenabled() is collects
        with pytest.raises(adjit.ShapeError):
            wrong(np.ones((3, 3)))
        assert gc.isenabled() is collects
        assert sys.getswitchinterval() == interval
    finally:
        (gc.enable if was_on else gc.disable)()


def test_light_kernels_are_small_beside_the_others() -> None:
    b = Builder()
    x, w, s = (b.input(name, Array(np.dtype(np.float32), shape)) for name, shape in
               (("x", (256, 256)), ("w", (256, 256)), ("s", (40,))))  # fmt: skip
    graph = b.graph("f", [b.emit("exp", b.emit("contract", x, w, spec=Subscripts.of("ik,kj->ij"))), b.emit("exp", s)])
    lowered = Lowered(graph, host_target(), straight=False)
    light = light_kernels(lowered.plan, host_target())
    assert {kernel.work for kernel in lowered.plan.kernels if (kernel.work, True) in light} == {
        kernel.work for kernel in lowered.plan.kernels if "40" in str(kernel.work)
    }
    assert lowered.llvm.count("optnone") >= 2
