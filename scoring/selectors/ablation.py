"""DEALRec's selection by one of its two scores: the ablation of Lin et al., SIGIR 2024, §4.3."""

from __future__ import annotations

from scoring.selectors.coverage import CoverageSelector

INFLUENCE = CoverageSelector(("influence",))
EFFORT = CoverageSelector(("effort",))
