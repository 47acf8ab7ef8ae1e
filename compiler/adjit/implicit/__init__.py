"""What an equation says: `root` and `fixed_point`, with derivatives by the implicit function theorem.

equation    a user's function as a graph of x and of all else that it reads
newton      root
iteration   fixed_point
dense       systems of linear equations
converged   how an iteration ends, and the error where it does not
"""

from adjit.implicit.iteration import fixed_point
from adjit.implicit.newton import root

__all__ = ["fixed_point", "root"]
