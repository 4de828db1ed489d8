"""Coverage of one score alone.

`influence` and `effort` are the ablation of DEALRec (Lin et al., SIGIR 2024, §4.3). `ccs` is coverage-centric coreset
selection (Zheng et al., ICLR 2023) on the surrogate's EL2N: the hardest β of the samples are dropped, the range of what
is left is cut into strata of equal width, and the budget is spread over them from the smallest on. The paper takes
several difficulty scores; EL2N is the one of them that needs a single trained model.
"""

from __future__ import annotations

from scoring.selectors.coverage import CoverageSelector


class InfluenceSelector(CoverageSelector):
    """Covers the range of influence."""

    scores = ("influence",)


class EffortSelector(CoverageSelector):
    """Covers the range of effort."""

    scores = ("effort",)


class CcsSelector(CoverageSelector):
    """Covers the range of EL2N."""

    scores = ("el2n",)
