"""Functions with rules of their own for their derivatives: `custom_rule`.

rule      what users call
traced    a call inside of a trace: a node with a body and rules
given     what users' rules gave, checked
"""

from adjit.custom.rule import CustomRule, custom_rule

__all__ = ["CustomRule", "custom_rule"]
