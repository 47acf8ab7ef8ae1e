"""The CPUs that `ADJIT_CPU` may name: the names that LLVM knows, what they imply, and whether their code runs here.

LLVM ends the process at an unknown name, so names are looked up here first. What one of them implies LLVM alone knows:
it inlines a function into another one where the other's CPU has all that the first one needs, and that can be seen.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import llvmlite.binding as llvm

from adjit_runtime import environment

X86_CPUS = (
    "x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4",
    "alderlake", "arrowlake", "arrowlake-s", "atom", "bonnell", "broadwell", "cannonlake", "cascadelake",
    "clearwaterforest", "cooperlake", "core-avx-i", "core-avx2", "core2", "corei7", "corei7-avx", "diamondrapids",
    "emeraldrapids", "goldmont", "goldmont-plus", "gracemont", "grandridge", "graniterapids", "graniterapids-d",
    "haswell", "icelake-client", "icelake-server", "ivybridge", "knl", "knm", "lunarlake", "meteorlake", "nehalem",
    "nocona", "novalake", "pantherlake", "penryn", "raptorlake", "rocketlake", "sandybridge", "sapphirerapids",
    "sierraforest", "silvermont", "skx", "skylake", "skylake-avx512", "slm", "tigerlake", "tremont",
    "westmere", "wildcatlake",
    "athlon-fx", "athlon64", "athlon64-sse3", "bdver1", "bdver2", "bdver3", "bdver4", "btver1", "btver2", "k8",
    "k8-sse3", "opteron", "opteron-sse3", "znver1", "znver2", "znver3", "znver4", "znver5",
)  # fmt: skip
"""LLVM's names of CPUs of 64 bits, of the oldest version that adjit works with."""
FOREIGN_CPUS = {"apple-m1": "aarch64-unknown-linux-gnu"}
"""CPUs of other machines that tests make code for, and their triples."""
_NATIVE = "native"

# Instructions that generated code has only where its source names them, and ours names none: what a machine says of
# them, or a virtual one hides, does not matter.
_ON_REQUEST = frozenset((
    "aes", "amx-avx512", "amx-bf16", "amx-complex", "amx-fp16", "amx-fp8", "amx-int8", "amx-movrs", "amx-tf32",
    "amx-tile", "cldemote", "clflushopt", "clwb", "clzero", "enqcmd", "fsgsbase", "fxsr", "hreset", "invpcid", "kl",
    "lwp", "movdir64b", "movdiri", "mwaitx", "pclmul", "pconfig", "pku", "prefetchi", "prfchw", "ptwrite", "raoint",
    "rdpid", "rdpru", "rdrnd", "rdseed", "rtm", "serialize", "sgx", "sha", "sha512", "shstk", "sm3", "sm4", "tsxldtrk",
    "uintr", "usermsr", "vaes", "vpclmulqdq", "waitpkg", "wbnoinvd", "widekl", "xsave", "xsavec", "xsaveopt", "xsaves",
))  # fmt: skip


def chosen_cpu() -> str:
    """What ADJIT_CPU names, empty where it is this machine's own. Raises ArgumentError for what is no CPU's name."""
    name = environment.value("ADJIT_CPU")
    if name in ("", _NATIVE):
        return ""
    if name not in known_cpus():
        raise environment.refusal("ADJIT_CPU", f"no CPU that is known; known are {', '.join(known_cpus())}")
    return name


@functools.cache
def known_cpus() -> tuple[str, ...]:
    """The names that `ADJIT_CPU` may have on a machine of this kind."""
    ours = X86_CPUS if llvm.get_process_triple().startswith("x86_64") else ()
    return (_NATIVE, *ours, *FOREIGN_CPUS)


def check_runs_here(cpu: str) -> None:
    """Raise ArgumentError where this machine cannot run code for the CPU that ADJIT_CPU names."""
    if cpu in FOREIGN_CPUS:
        raise environment.refusal("ADJIT_CPU", f"code for {FOREIGN_CPUS[cpu]} does not run here")
    missing = _missing(cpu)
    if missing:
        raise environment.refusal(
            "ADJIT_CPU", f"its code does not run here: this machine, {llvm.get_host_cpu_name()}, has no {missing}"
        )


@functools.cache
def _missing(cpu: str) -> str:
    """What code for a CPU may use and this machine does not have."""
    lacking = [name for name, there in llvm.get_host_cpu_features().items() if not there and name not in _ON_REQUEST]
    return ", ".join(sorted(implied(cpu, lacking)))


def implied(cpu: str, features: Sequence[str]) -> frozenset[str]:
    """Which of these features an x86 CPU has."""
    # Each function needs one feature. LLVM inlines those into @all that the CPU of @all has the feature of.
    functions = [
        f'define internal void @need{number}() "target-cpu"="x86-64" "target-features"="+{feature}" {{\n'
        f"  store volatile i32 {number}, ptr @seen\n  ret void\n}}"
        for number, feature in enumerate(features)
    ]
    calls = "\n".join(f"  call void @need{number}()" for number in range(len(features)))
    caller = f'define void @all() "target-cpu"="{cpu}" {{\n{calls}\n  ret void\n}}'
    triple = llvm.get_process_triple()
    text = "\n".join([f'target triple = "{triple}"', "@seen = global i32 0", *functions, caller])
    module = llvm.parse_assembly(text, llvm.create_context())
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu="x86-64", opt=1)
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=1))
    passes.getModulePassManager().run(module, passes)
    left = str(module)
    return frozenset(feature for number, feature in enumerate(features) if f"@need{number}()" not in left)
