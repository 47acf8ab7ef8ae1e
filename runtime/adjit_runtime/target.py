"""The machine that code is made for: CPU name, features, vector width, registers and cache sizes.

The only module that knows them. `ADJIT_CPU` names another CPU to compile for (`haswell`, `x86-64-v4`,
`apple-m1`), so that one machine can test the code of another. A `Target` is part of every cache key.
"""

from __future__ import annotations

import functools
import os
import re
from dataclasses import dataclass
from pathlib import Path

import llvmlite
import llvmlite.binding as llvm

from adjit_runtime.errors import MissingExtraError
from adjit_runtime.fork import calls_llvmlite

LINE = 64
"""Bytes of a line of the cache."""
LLVMLITE = (0, 50)
"""The oldest version whose LLVM reads the text that is written."""

# What LLVM's short names stand for, where the name is no host that we can ask.
_NAMED_FEATURES = {
    "haswell": ("avx2", "fma"),
    "znver3": ("avx2", "fma"),
    "x86-64-v3": ("avx2", "fma"),
    "x86-64-v4": ("avx2", "fma", "avx512f", "avx512vl", "avx512bw", "avx512dq"),
    "skylake-avx512": ("avx2", "fma", "avx512f", "avx512vl", "avx512bw", "avx512dq"),
    "znver4": ("avx2", "fma", "avx512f", "avx512vl", "avx512bw", "avx512dq"),
    "apple-m1": ("neon",),
}
_AVX512 = frozenset({"avx512f", "avx512vl", "avx512bw", "avx512dq"})
_DEFAULT_CACHES = (32 << 10, 512 << 10, 8 << 20)


@dataclass(frozen=True, slots=True)
class Target:
    """What code generation and schedule may know of a machine.

    `vector_bytes` is the width that explicit vectors are written with, `registers` how many such vector
    registers there are; `l1`, `l2`, `l3` are data-cache sizes in bytes, of one core where it has its own.
    """

    triple: str
    cpu: str
    features: str
    vector_bytes: int
    registers: int
    masks: bool
    l1: int
    l2: int
    l3: int

    @property
    def permutes(self) -> bool:
        """Whether an instruction picks lanes of a register by indices in another one."""
        return self.triple.startswith("x86") and self.vector_bytes >= 32

    @property
    def fuses(self) -> bool:
        """Whether an instruction multiplies and adds; without one, llvm.fma calls the C library for each lane."""
        return self.vector_bytes > 16 or self.triple.startswith("aarch64")

    @property
    def scales(self) -> bool:
        """Whether an instruction multiplies by a power of two of any size: AVX-512's scalef."""
        return self.triple.startswith("x86") and self.vector_bytes == 64

    @property
    def key(self) -> str:
        """One line that names everything above: a part of every cache key."""
        return f"{self.triple}|{self.cpu}|{self.features}|{self.vector_bytes}|{self.l1}|{self.l2}|{self.l3}"


def host_target() -> Target:
    """The target of this process: `ADJIT_CPU` if it is set, else the CPU that runs us."""
    return _target(os.environ.get("ADJIT_CPU", ""))


@functools.cache
@calls_llvmlite
def _target(cpu: str) -> Target:
    initialize()
    triple = llvm.get_process_triple()
    if cpu:
        known = frozenset(_NAMED_FEATURES.get(cpu, ()))
        features = ""
        if cpu == "apple-m1":
            triple = "aarch64-unknown-linux-gnu"
    else:
        cpu = llvm.get_host_cpu_name()
        host = llvm.get_host_cpu_features()
        known = frozenset(name for name, on in host.items() if on)
        features = host.flatten()
    if known >= _AVX512:
        width, registers, masks = 64, 32, True
    elif "avx2" in known:
        width, registers, masks = 32, 16, False
    elif "neon" in known or triple.startswith("aarch64"):
        width, registers, masks = 16, 32, False
    else:
        width, registers, masks = 16, 16, False
    l1, l2, l3 = _cache_sizes()
    return Target(triple, cpu, features, width, registers, masks, l1, l2, l3)


@functools.cache
@calls_llvmlite
def initialize() -> None:
    """Start LLVM's code generators, once a process. Raises MissingExtraError where llvmlite is too old."""
    found = tuple(int(number) for number in re.findall(r"\d+", llvmlite.__version__)[:2])
    if found < LLVMLITE:
        wanted = ".".join(map(str, LLVMLITE))
        raise MissingExtraError(f"adjit needs llvmlite {wanted} or newer; {llvmlite.__version__} is installed")
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    if os.environ.get("ADJIT_CPU") == "apple-m1":
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()


def target_machine(target: Target) -> llvm.TargetMachine:
    """LLVM's code generator for `target`: relocatable code, no process-wide option."""
    return llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=2, reloc="pic", codemodel="small", jit=False
    )


def _cache_sizes() -> tuple[int, int, int]:
    """Data-cache sizes as the system reports them (Linux: sysfs); common ones where it does not."""
    sizes: dict[int, int] = {}
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            if (index / "type").read_text().strip() == "Instruction":
                continue
            level = int((index / "level").read_text())
            text = (index / "size").read_text().strip()
        except (OSError, ValueError):
            continue
        unit = {"K": 1 << 10, "M": 1 << 20}.get(text[-1:], 1)
        sizes[level] = int(text.rstrip("KM")) * unit
    return tuple(sizes.get(i + 1, default) for i, default in enumerate(_DEFAULT_CACHES))  # type: ignore[return-value]
