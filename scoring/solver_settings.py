"""How the influence solve is done: the settings alone, without the libraries that solve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from scoring.exceptions import SettingError

SolverName = Literal["none", "lissa", "exact", "cg", "ekfac"]

SOLVERS: tuple[str, ...] = get_args(SolverName)


@dataclass(frozen=True)
class SolverSettings:
    """How h is solved for; a config takes its defaults from here.

    Attributes
    ----------
    solver : one of `SOLVERS`; `none` takes h = v.
    damping : λ, in units of the curvature; for `cg`, `exact` and `ekfac`.
    tolerance, max_iterations : of `cg`.
    lissa_damp, lissa_scale, lissa_steps : of `lissa`, whose fixed point is lissa_scale times the solution for
        a damping of lissa_damp · lissa_scale.
    """

    solver: SolverName = "ekfac"
    damping: float = 0.001
    tolerance: float = 1e-6
    max_iterations: int = 500
    lissa_damp: float = 0.01
    lissa_scale: float = 25.0
    lissa_steps: int = 5000

    def __post_init__(self) -> None:
        if self.solver not in SOLVERS:
            raise SettingError(f"unknown influence solver {self.solver!r}; choose one of {', '.join(SOLVERS)}")
