"""A child of a fork goes on with what it has and compiles what it has not, whatever the other threads of its parent
were doing: programs of their own, since a fault here is a process that hangs.

From Python 3.12 on a fork beside other threads warns, of which there may be some that the compiler began: the programs
run without warnings as errors."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from adjit_runtime import fork

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")

HEAD = """
import gc, itertools, multiprocessing, os, signal, sys, threading, time
import numpy as np
import adjit

def child(work):
    pid = os.fork()
    if pid:
        return pid
    signal.alarm(50)  # of hanging it dies
    try:
        work()
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        os._exit(1)
    os._exit(0)

def ended(*children):
    for pid in children:
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert code == 0, f"a child ended with {code}"

def waiting(go, inside):
    inside.set()
    go.wait(20)

@adjit.jit
def f(x):
    if len(x) == 4:
        waiting(go, inside)
    return x * 2

go, inside = threading.Event(), threading.Event()
interval = sys.getswitchinterval()
f(np.ones(3))
"""


def run(code: str) -> None:
    """Run a program; it ends well, and says so."""
    done = subprocess.run(
        [sys.executable, "-c", HEAD + code + "\nprint('end')"], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr


def test_llvmlite_has_the_lock_that_is_taken_ahead() -> None:
    assert type(fork.LLVMLITE).__name__ == "RLock"


def test_while_another_thread_traces() -> None:
    """All its locks are free in the child, and the interpreter is set back."""
    run("""
threading.Thread(target=f, args=(np.ones(4),), daemon=True).start()
inside.wait()
assert not gc.isenabled()

def work():
    global go
    assert gc.isenabled() and sys.getswitchinterval() == interval
    go = threading.Event()
    go.set()
    for n in (3, 4, 5):
        assert np.array_equal(f(np.ones(n)), np.full(n, 2.0))
    adjit.set_threads(2)

ended(child(work))
go.set()
assert np.array_equal(f(np.ones(4)), np.full(4, 2.0))
""")


def test_while_another_thread_compiles_one_shape_after_the_other() -> None:
    run("""
def compile():
    for n in itertools.count(4):
        if stop:
            return
        adjit.jit(lambda x: np.tanh(x @ x.T) @ x)(np.ones((n, n)))

def work():
    assert np.array_equal(f(np.ones(3)), np.full(3, 2.0))
    assert adjit.jit(lambda x: np.sum(x))(np.ones(7)) == 7.0

stop = False
threads = [threading.Thread(target=compile) for _ in range(2)]
for thread in threads:
    thread.start()
for _ in range(30):
    ended(child(work))
stop = True
for thread in threads:
    thread.join()
work()
""")


@pytest.mark.parametrize("count", [1, 3])
def test_a_program_of_one_thread_that_forks_beside_what_it_did_not_begin(count: int) -> None:
    """Libraries are made by threads as a guess, workers are threads: the program has none of its own."""
    run(f"""
adjit.set_threads({count})

@adjit.jit
def g(x):
    return np.tanh(x @ x) @ x

x = np.eye(256, dtype=np.float32)

def first():
    np.testing.assert_allclose(g(x), np.full((), np.tanh(1.0)) * x, rtol=1e-6)  # tanh of another library

from adjit import compilation
from adjit_runtime.target import host_target
compilation.begin_library("gemm_f64", host_target())
ended(child(first), child(first))
first()
ended(child(first), child(first))
with multiprocessing.get_context("fork").Pool(3) as pool:
    results = pool.map(g, [x] * 12)
assert all(np.array_equal(result, g(x)) for result in results)
assert np.array_equal(g(x), g(x))
""")


def test_a_state_that_another_thread_writes_is_torn_in_the_child() -> None:
    """One that the forking thread writes is not: it goes on."""
    run("""
step = adjit.training_step(lambda p, x: np.sum(p * x), adjit.optim.sgd(0.25))
state, idle, own = (step.init(np.ones(3)) for _ in range(3))
x = np.ones(3)
for each in (state, idle, own):
    for _ in range(3):
        step(each, x)
threading.Thread(target=state.exclusively, args=(waiting, go, inside), daemon=True).start()
inside.wait()

def work():
    for use in (lambda: state.params, lambda: step(state, x), state.copy):
        try:
            use()
        except adjit.StateError as error:
            assert "torn" in str(error)
        else:
            raise AssertionError
    step(idle, x)
    assert idle.step == 4

ended(child(work))
go.set()

def progress(done, total, loss):
    # In the midst of a run.
    global pid
    if pid is None:
        pid = os.fork()

pid = None
step.run(own, (np.ones((8, 3)),), batch_size=4, progress=progress, shuffle=False)
assert own.step == 5
step(own, x)
np.testing.assert_array_equal(own.params, np.full(3, 1 - 3 * 0.25 - 2 * 4 * 0.25 - 0.25))
if pid == 0:
    os._exit(0)
ended(pid)
""")


def test_an_interrupt_while_a_fork_waits_comes_afterwards() -> None:
    run("""
from adjit_runtime import fork, guard
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, where the tests run in the background
threading.Thread(target=guard.unforked, args=(waiting, go, inside), daemon=True).start()
inside.wait()
main = threading.main_thread().ident
threading.Timer(0.3, lambda: signal.pthread_kill(main, signal.SIGINT)).start()
threading.Timer(0.8, go.set).start()
parent = os.getpid()
try:
    pid = child(lambda: f(np.ones(3)))
    time.sleep(20)
    raise AssertionError("no interrupt")
except KeyboardInterrupt:
    if os.getpid() != parent:
        os._exit(0)
assert go.is_set()
os.wait()
assert not fork.INSIDE and not fork.GATE._is_owned() and not fork.LLVMLITE._is_owned()
""")
