"""What an arm came to, whatever model was tuned on it: the rank of every target of every user."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scoring.ragged import Ragged

#: In place of a selector: the model before any tuning.
ZERO_SHOT = "zero-shot"
TEST, VALID = "test", "valid"


@dataclass(frozen=True, eq=False)
class Outcome:
    """One model of one arm.

    Attributes
    ----------
    model : what was tuned: the LLM, or a proxy by name.
    selector, size, seed, draw : of the arm; size None where there is none.
    samples : in the coreset.
    sees_validation : whether the selection looked at the validation period.
    ranks : for each split, the ranks of each user's targets; users in the same order in all outcomes.
    selection_seconds, tuning_seconds : wall seconds that only this arm took.
    best_step : the optimizer step with the lowest validation loss, 0 for the untuned model; None of that model itself.
        A proxy is left at this step. Of the LLM the best adapter is kept, even where no adapter beats step 0.
    valid_loss : of the LLM's best adapter, on the validation users whom no selection looks at; None of others.
    untuned_loss : of the LLM on the same users before its tuning; None of others.
    """

    model: str
    selector: str
    size: float | None
    seed: int
    draw: int
    samples: int
    ranks: Mapping[str, Ragged]
    sees_validation: bool = False
    selection_seconds: float = 0.0
    tuning_seconds: float = 0.0
    best_step: int | None = None
    valid_loss: float | None = None
    untuned_loss: float | None = None
