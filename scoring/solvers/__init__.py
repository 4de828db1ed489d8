"""Solvers of (H + λI) h = v, one per module, all in float64. None knows where products are computed."""

from scoring.solvers.cg import solve_cg
from scoring.solvers.ekfac import solve_ekfac
from scoring.solvers.exact import Eigensystem, solve_exact
from scoring.solvers.lissa import solve_lissa
from scoring.solvers.solution import Product, Solution, relative_residual

__all__ = [
    "Eigensystem",
    "Product",
    "Solution",
    "relative_residual",
    "solve_cg",
    "solve_ekfac",
    "solve_exact",
    "solve_lissa",
]
