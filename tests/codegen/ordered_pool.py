"""A pool in place of the real one that runs the parts of each job in a given order, one after the other, as if there
were so many threads.

Parts that do not depend on each other give the same bits in any order: what one part writes and another one reads or
writes shows in every run, where threads would have to meet at the wrong moment."""

from __future__ import annotations

import functools

from adjit.codegen.objects import compile_text
from adjit_runtime.target import Target

ORDERS = ("forward", "backward", "middle")
"""Parts as they are numbered, from the last one on, or from the one in the middle on."""

_PARTS = {
    "forward": "%part = add i64 %i, 0",
    "backward": "%left = sub i64 %count, %i\n  %part = sub i64 %left, 1",
    "middle": "%half = udiv i64 %count, 2\n  %later = add i64 %i, %half\n  %part = urem i64 %later, %count",
}


@functools.cache
def ordered_pool(threads: int, order: str, target: Target) -> bytes:
    """The object code of such a pool."""
    return compile_text(
        f"""; pool
define i64 @adjit_threads() {{
  ret i64 {threads}
}}

define i64 @adjit_short_threads(ptr %trial) {{
  ret i64 {threads}
}}

define i64 @adjit_trial_begin(ptr %trial) {{
  ret i64 0
}}

define void @adjit_trial_end(ptr %trial, i64 %begun) {{
  ret void
}}

define void @adjit_wake() {{
  ret void
}}

define void @adjit_parallel(ptr %function, ptr %context, i64 %count) {{
entry:
  %some = icmp sgt i64 %count, 0
  br i1 %some, label %one, label %end
one:
  %i = phi i64 [ 0, %entry ], [ %next, %one ]
  {_PARTS[order]}
  call void %function(ptr %context, i64 %part)
  %next = add i64 %i, 1
  %go = icmp slt i64 %next, %count
  br i1 %go, label %one, label %end
end:
  ret void
}}
""",
        target,
    )
