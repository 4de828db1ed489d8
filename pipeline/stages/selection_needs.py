"""The inputs of a selection, derived once from the configuration: stages, scores, features and a reference period."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.engine.config import Config, SelectConfig
from scoring.selection import selector

#: Scores and features that take one more pass of the surrogate over the train samples. Each has a stage of its name.
SURROGATE_FEATURES = ("el2n", "grand", "embedding")
#: The features that only the built-in surrogate has.
SASREC_FEATURES = ("el2n", "embedding")
#: The stage that scores the influence on the risk of the reference period.
REFERENCE_INFLUENCE = "reference_influence"
#: Stages that run only when a selection needs them.
FEATURE_NAMES = (*SURROGATE_FEATURES, REFERENCE_INFLUENCE)


@dataclass(frozen=True)
class ReferenceAim:
    """The period that a selection looks at.

    Attributes
    ----------
    period : "valid", or a share that stands for the last train samples by time.
    half : whether only half of the validation users count.
    by_influence : whether the influence on the period's risk makes the selection look at it; otherwise the method does.
    """

    period: Literal["valid"] | float
    half: bool
    by_influence: bool

    @classmethod
    def of(cls, section: SelectConfig, by_influence: bool) -> ReferenceAim:
        """Return the configured period; only the validation users have halves."""
        half = section.reference_users == "half" and section.reference == "valid"
        return cls(section.reference, half, by_influence)

    @property
    def is_validation(self) -> bool:
        return self.period == "valid"


@dataclass(frozen=True)
class SelectionNeeds:
    """What one selection reads.

    Attributes
    ----------
    scores : the scores that decide whether a sample may be chosen, by the selector's names.
    features : what else the selector is given about each sample.
    stages : the stages of a run whose results decide the coreset, in order.
    feature_stages : the stages that compute features for it, in order. Their results follow from `stages` and the
        settings.
    reference : the period that it looks at; None where it looks at none.
    valid_influence : whether it reads the influence on the risk of all validation users, from the stage influence.
    """

    scores: tuple[str, ...]
    features: tuple[str, ...]
    stages: tuple[str, ...]
    feature_stages: tuple[str, ...]
    reference: ReferenceAim | None
    valid_influence: bool

    @classmethod
    def of(cls, config: Config) -> SelectionNeeds:
        """Return the needs of the configured method, with its settings."""
        section = config.select
        chosen = selector(section.method)
        read = {*chosen.scores, *chosen.features}
        by_influence = section.influence == "reference" and "influence" in chosen.scores
        aim = ReferenceAim.of(section, by_influence) if by_influence or chosen.sees_validation else None
        features = tuple(name for name in SURROGATE_FEATURES if name in read)
        features += (REFERENCE_INFLUENCE,) if by_influence else ()
        stage_influence = "influence" in chosen.scores and not by_influence
        # The influence stratifies the draw of candidates, and the selection weights them by it.
        of_candidates = "effort" in chosen.scores and "influence" in effort_needs(config)
        wanted = (
            ("surrogate", bool(features)),
            ("influence", stage_influence or of_candidates),
            ("effort", "effort" in chosen.scores),
        )
        return cls(
            scores=tuple(chosen.scores),
            features=tuple(chosen.features),
            stages=("ingest", *(stage for stage, needed in wanted if needed)),
            feature_stages=features,
            reference=aim,
            valid_influence=stage_influence and config.influence.target == "valid",
        )

    @property
    def aims_influence(self) -> bool:
        """Tell whether the influence on the reference period's risk replaces the stage's."""
        return REFERENCE_INFLUENCE in self.feature_stages

    @property
    def sees_validation(self) -> bool:
        """Tell whether the selection looks at validation users, itself or through the influence."""
        return self.valid_influence or (self.reference is not None and self.reference.is_validation)


def effort_needs(config: Config) -> tuple[str, ...]:
    """Return the stages that stage effort reads: candidates are drawn by the influence.

    The effort of all samples depends on the LLM alone. It is the most expensive pass of all, so another influence
    leaves it as it is.
    """
    return ("ingest",) if config.effort.candidates == "all" else ("ingest", "influence")
