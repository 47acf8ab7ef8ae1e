"""Workers as the parent sees them: started with fixed threads and caches of their own, asked, ended."""

from __future__ import annotations

import json
import math
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

TIMEOUT = 600.0
"""Seconds after which a side that does not answer counts as failed; the longest compilations take one minute."""

POLL = 0.25
"""Seconds after which a parent that waits looks how much of the CPU the worker has had."""


class WorkerError(Exception):
    """A side could not do what it was asked."""


class TooSlow(WorkerError):
    """A side took more of the CPU than it was given; its process has ended."""


def pythons(text: str) -> dict[str, str]:
    """Interpreters by side, from "numba=path,adjit=path"; other sides run in this one."""
    pairs = [part.partition("=") for part in text.split(",") if part]
    for name, equals, path in pairs:
        if not equals or not path:
            raise ValueError(f"{name!r} is no side=path")
    return {name: path for name, _, path in pairs}


LESSER_CPUS: dict[str, dict[str, str]] = {
    "haswell": {
        "ADJIT_CPU": "haswell",
        "OPENBLAS_CORETYPE": "Haswell",
        "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "",
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX2 --xla_cpu_experimental_ynn_fusion_type= ",
        "PYTENSOR_FLAGS": "gcc__cxxflags=-march=haswell,",
    }
}
"""CPUs whose code a machine that can do more is measured with, and what keeps each library to their instructions.
(XLA's products by YNNPACK ask the processor itself; without them they are oneDNN's.)"""


def environment(threads: int, cache: Path, cpu: str = "") -> dict[str, str]:
    """Variables of a worker: so many threads for every library, compiled code kept in `cache` alone, and code for a
    CPU of `LESSER_CPUS`, or for this machine's."""
    variables = dict(os.environ)
    variables.pop("ADJIT_CACHE", None)
    # As for everybody who has run a program before: an import is not to compile sources.
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    count = str(threads)
    for name in ("OMP", "MKL", "OPENBLAS", "NUMBA", "NUMEXPR"):
        variables[f"{name}_NUM_THREADS"] = count
    eigen = "true" if threads > 1 else "false"
    lesser = LESSER_CPUS.get(cpu, {})
    variables |= lesser
    variables |= {
        "ADJIT_THREADS": count,
        "XLA_FLAGS": lesser.get("XLA_FLAGS", "")
        + f"--xla_cpu_multi_thread_eigen={eigen} intra_op_parallelism_threads={count}",
        "JAX_PLATFORMS": "cpu",
        "ADJIT_CACHE_DIR": str(cache / "adjit"),
        "JAX_COMPILATION_CACHE_DIR": str(cache / "jax"),
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "torch"),
        "NUMBA_CACHE_DIR": str(cache / "numba"),
        "PYTENSOR_FLAGS": f"{lesser.get('PYTENSOR_FLAGS', '')}base_compiledir={cache / 'pytensor'}",
        "PYTHONPATH": os.pathsep.join(
            [str(ROOT), str(ROOT / "compiler"), str(ROOT / "runtime"), variables.get("PYTHONPATH", "")]
        ).rstrip(os.pathsep),
    }
    return variables


class Process:
    """A worker. Use as a context manager; it ends with it."""

    def __init__(
        self,
        side: str,
        threads: int,
        workload: str,
        cache: Path,
        interpreters: Mapping[str, str] | None = None,
        cpu: str = "",
    ) -> None:
        self.side = side
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
        python = (interpreters or {}).get(side, sys.executable)
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.worker", side, str(threads), workload],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=ROOT,
            env=environment(threads, cache, cpu),
        )

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, do: str, patience: float = math.inf, **arguments: Any) -> dict[str, Any]:
        """The answer to one request. Raises WorkerError if the side fails, dies or is too slow, TooSlow where it has
        taken `patience` seconds of the CPU, if they are bounded."""
        given, answers = self._process.stdin, self._process.stdout
        if given is None or answers is None:
            raise WorkerError("the process has no pipes")
        try:
            given.write(json.dumps({"do": do, **arguments}) + "\n")
            given.flush()
        except BrokenPipeError:
            raise WorkerError(self._last_words()) from None
        stop = time.monotonic() + TIMEOUT
        while not select.select([answers], [], [], POLL)[0]:
            if self._cpu() > patience:
                self._process.kill()
                raise TooSlow(f"no answer in {patience:.0f} s of the CPU")
            if time.monotonic() > stop:
                self._process.kill()
                raise WorkerError(f"no answer in {TIMEOUT:.0f} s")
        line = answers.readline()
        if not line:
            raise WorkerError(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def _cpu(self) -> float:
        """CPU seconds of the worker so far; 0 where the system does not say. (A limit that the system itself keeps
        makes the worker's clock of the CPU coarse.)"""
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _last_words(self) -> str:
        self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        return f"the process ended with {self._process.returncode}: {lines[-1] if lines else 'no message'}"

    def close(self) -> None:
        """Let the worker end; by force if it does not."""
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
        self._errors.close()
