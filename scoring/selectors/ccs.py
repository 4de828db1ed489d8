"""Coverage-centric coreset selection (Zheng et al., ICLR 2023) on the surrogate's EL2N.

The hardest β of the samples are dropped, the range of what is left is cut into strata of equal width, and the budget
is spread over them from the smallest on. The paper takes several difficulty scores; EL2N is the one of them that
needs a single trained model.
"""

from __future__ import annotations

from scoring.selectors.coverage import CoverageSelector

CCS = CoverageSelector(("el2n",))
