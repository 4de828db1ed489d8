"""Train samples in proportion to the density ratio of a reference period to train.

A classifier that tells reference samples from train samples estimates the ratio of their densities by its odds
(Sugiyama, Suzuki and Kanamori, "Density Ratio Estimation in Machine Learning", 2012, ch. 4; Bickel, Brückner and
Scheffer, "Discriminative learning under covariate shift", JMLR 10, 2009). Drawn in proportion to it, the coreset
follows the reference as far as the features tell (`scoring.reference_features`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scoring.counts import user_folds
from scoring.logistic import Logistic
from scoring.ragged import Ragged
from scoring.reference import Reference
from scoring.reference_features import ItemTimes, ReferenceFeatures, SampleCounts, Transitions
from scoring.selectors.base import LogView, Rows, Scores, ScoreShard, Selector
from scoring.selectors.score_shard import Shards
from scoring.subset import Subset

#: Train samples, and reference samples, that the classifier is fitted on, at most.
FIT_SAMPLES = 32_768
RIDGE = 1e-3
#: The ln of the ratio is kept within this, so that no sample is certain to be drawn or to be left.
LOG_RATIO_BOUND = 8.0
#: The draw of the classifier's samples is of its own.
_SEED = 0x44454E53


class DensityRatioSelector(Selector):
    """The score is the ln of the ratio; histories, targets and, where known, times decide it."""

    features = ("target", "history", "user", "timestamp")
    may_lack = ("timestamp",)
    sees_validation = True
    draw = "log_proportional"

    def fit(self, log: LogView) -> None:
        """Fit in two passes over the shards, three with times, and two over the reference.

        Holds counts of items and the classifier's samples.
        """
        self._features = _count(log.shards, log.reference)
        self._model = _fit(log, self._features)

    def rank(self, shard: ScoreShard) -> Scores:
        ratio = self._model.log_odds(self._features(*_sample(shard)))
        return np.clip(ratio, -LOG_RATIO_BOUND, LOG_RATIO_BOUND).astype(np.float32)

    def facts(self, log: LogView, chosen: Rows) -> dict[str, object]:
        weights = dict(zip(self._features.names, self._model.weights.tolist(), strict=True))
        return {"reference_samples": log.reference.samples, "classifier": weights}


def _count(shards: Shards, reference: Reference) -> ReferenceFeatures:
    train, aimed, transitions = SampleCounts(), SampleCounts(), Transitions()
    for part in reference.shards():
        aimed.add(part.histories, part.target, user_folds(part.user), part.row)
    low, high, timed = np.inf, -np.inf, True
    for whole in shards():
        shard = _beside(whole, reference)
        sample = _sample(shard)
        train.add(*sample)
        transitions.add(*sample)
        if shard.timestamp is None:
            timed = False
        elif len(shard.timestamp):
            low, high = min(low, float(shard.timestamp.min())), max(high, float(shard.timestamp.max()))
    if not timed or not low < high:
        return ReferenceFeatures(train, aimed, transitions, None)
    times = ItemTimes(low, high)
    for whole in shards():
        shard = _beside(whole, reference)
        assert shard.timestamp is not None
        _, target, fold = _sample(shard)
        times.add(target, shard.timestamp, fold)
    return ReferenceFeatures(train, aimed, transitions, times)


def _fit(log: LogView, features: ReferenceFeatures) -> Logistic:
    subset = Subset(FIT_SAMPLES, _SEED)
    for shard in log.usable():
        usable = _beside(shard, log.reference)
        subset.offer(usable.sample_id, features(*_sample(usable)))
    aimed = Subset(FIT_SAMPLES, _SEED)
    for part in log.reference.shards():
        aimed.offer(part.sample_id, features(part.history(), part.target, user_folds(part.user)))
    negative, positive = subset.values(), aimed.values()
    labels = np.arange(len(negative) + len(positive)) >= len(negative)
    return Logistic.fit(np.concatenate([negative, positive]), labels, RIDGE)


def _beside(shard: ScoreShard, reference: Reference) -> ScoreShard:
    """Return the train samples that are not in the reference: a sample counts on one side only."""
    inside = reference.inside(shard.timestamp, len(shard.ok))
    return shard.take(np.flatnonzero(~inside)) if inside.any() else shard


def _sample(shard: ScoreShard) -> tuple[Ragged, npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Return the history, target and fold of each sample."""
    assert shard.history is not None
    assert shard.target is not None
    assert shard.user is not None
    return shard.history, shard.target, user_folds(shard.user)
