"""adjit: plain NumPy model functions in, one native training step out."""

# Before any other module: the runtime notes the files that they come from.
import adjit_runtime as adjit_runtime  # isort: split

from typing import TYPE_CHECKING

from adjit import nn, optim, random
from adjit.driver import grad, jit, value_and_grad
from adjit.ir.evaluate import evaluate
from adjit.ir.graph import Graph
from adjit.ir.text import parse
from adjit.machine import machine
from adjit.trace import asarray, stop_gradient
from adjit.training import TrainingStep, training_step
from adjit_runtime.checkpoint import load, save
from adjit_runtime.errors import (
    AdjitError,
    ArgumentError,
    ConvergenceError,
    DerivativeError,
    DivisionByZero,
    DomainError,
    DTypeError,
    FileMissing,
    FormatError,
    IndexOutOfRange,
    InternalError,
    MissingExtraError,
    NotFiniteError,
    NotFiniteWarning,
    OutOfMemory,
    ShapeError,
    SignaturesWarning,
    StateError,
    TraceError,
    WeakOverflowError,
    WideningWarning,
)
from adjit_runtime.history import History
from adjit_runtime.norms import Norms
from adjit_runtime.public import late
from adjit_runtime.state import State
from adjit_runtime.threads import get_threads, set_threads

if TYPE_CHECKING:
    from adjit.checking import check_grads
    from adjit.control import checkpoint, cond, fori_loop, map, scan, switch, while_loop
    from adjit.custom import custom_rule
    from adjit.implicit import fixed_point, root
    from adjit.jacobians import elementwise_grad, hessian, hvp, jacfwd, jacobian, jacrev
    from adjit.minimizing import Minimum, minimize
    from adjit.raveling import ravel
    from adjit.sparse.functions import pattern, sparse_hessian, sparse_jacobian
    from adjit.sympy_functions import from_sympy, symbolic
    from adjit.transforms import jvp, linearize, vjp
    from adjit.vectorize import vmap

__version__ = "0.1.0"

__all__ = [
    "AdjitError", "ArgumentError", "ConvergenceError", "DTypeError", "DerivativeError", "DivisionByZero", "DomainError",
    "FileMissing", "FormatError", "Graph", "History", "IndexOutOfRange", "InternalError", "Minimum",
    "MissingExtraError", "Norms", "NotFiniteError", "NotFiniteWarning", "OutOfMemory", "ShapeError",
    "SignaturesWarning", "State", "StateError", "TraceError", "TrainingStep", "WeakOverflowError", "WideningWarning",
    "asarray", "check_grads", "checkpoint", "cond", "custom_rule", "elementwise_grad", "evaluate", "fixed_point",
    "fori_loop", "from_sympy", "get_threads", "grad", "hessian", "hvp", "jacfwd", "jacobian", "jacrev", "jit", "jvp",
    "linearize", "load", "machine", "map", "minimize", "nn", "optim", "parse", "pattern", "random", "ravel", "root",
    "save", "scan", "set_threads", "sparse_hessian", "sparse_jacobian", "stop_gradient", "switch", "symbolic",
    "training_step", "value_and_grad", "vjp", "vmap", "while_loop",
]  # fmt: skip

_LATE = {
    name: module
    for module, names in {
        "adjit.checking": "check_grads",
        "adjit.control": "checkpoint cond fori_loop map scan switch while_loop",
        "adjit.custom": "custom_rule",
        "adjit.implicit": "fixed_point root",
        "adjit.minimizing": "Minimum minimize",
        "adjit.jacobians": "elementwise_grad hessian hvp jacfwd jacobian jacrev",
        "adjit.raveling": "ravel",
        "adjit.sparse.functions": "pattern sparse_hessian sparse_jacobian",
        "adjit.sympy_functions": "from_sympy symbolic",
        "adjit.transforms": "jvp linearize vjp",
        "adjit.vectorize": "vmap",
    }.items()
    for name in names.split()
}
"""What programs without it need not wait for: it is imported when it is first asked for."""
__getattr__, __dir__ = late(globals(), _LATE)
