"""DEALRec's selection: normalised influence plus λ times effort, hard prune, coverage over score strata.

Lin et al., "Data-efficient Fine-tuning for LLM-based Recommendation", SIGIR 2024, §3.3. With influence on the
validation risk and `sampling: proportional` it is the same two scores, aimed and drawn in proportion.
"""

from __future__ import annotations

from scoring.selectors.coverage import CoverageSelector

DEALREC = CoverageSelector(("influence", "effort"))
