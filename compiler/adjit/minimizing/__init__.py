"""`minimize`: the least value of a function of many numbers, in one native loop.

lbfgs    directions of limited memory, and the loop over steps
search   how far to go along one of them, by the strong Wolfe conditions
minimum  what is found, and why it ends there
"""

from adjit.minimizing.lbfgs import minimize
from adjit.minimizing.minimum import Minimum

__all__ = ["Minimum", "minimize"]
