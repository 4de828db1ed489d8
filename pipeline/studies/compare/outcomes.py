"""The outcome of an arm, whatever model was tuned on it: the rank of every target of every user."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scoring.ragged import Ragged

#: The name of the model before any tuning, in place of a selector.
ZERO_SHOT = "zero-shot"
TEST, VALID = "test", "valid"


@dataclass(frozen=True, eq=False)
class Outcome:
    """The outcome of one model in one arm.

    Attributes
    ----------
    model : the model that was tuned: the LLM, or a proxy by name.
    selector, size, seed, draw : what the arm is; size is None where it has none.
    samples : the number of samples in the coreset.
    sees_validation : whether the selection looked at the validation period.
    ranks : the ranks of each user's targets by split; users have the same order in all outcomes.
    selection_seconds, tuning_seconds : the wall seconds that this arm alone took.
    best_step : the optimizer step with the lowest validation loss; 0 if that is before any tuning, None for the untuned
        model itself. A proxy returns to this step. The LLM keeps its best adapter even where none beats step 0.
    valid_loss : the loss of the LLM's best adapter on validation users that no selection looks at; None for proxies.
    untuned_loss : the loss of the LLM on the same users before tuning; None for proxies.
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
