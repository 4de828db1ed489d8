"""The hardest samples for the surrogate (Paul, Ganguli and Dziugaite, "Deep Learning on a Data Diet", NeurIPS 2021).

EL2N is the length of the error of the predicted probabilities, GraNd the length of the loss's gradient. The paper
averages over early checkpoints of several trainings; here it is the one trained surrogate, as the scores of
baselines are in DEALRec. See `scoring.difficulty`.
"""

from __future__ import annotations

from scoring.selectors.top import TopSelector

EL2N = TopSelector(("el2n",))
GRAND = TopSelector(("grand",))
