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
from scoring.reference import Reference, required_reference
from scoring.reference_features import ItemTimes, ReferenceFeatures, SampleCounts, Transitions
from scoring.selectors.base import (
    ScoreShard,
    Selection,
    SelectionParams,
    Shards,
    asked_size,
    survey,
    usable_rows,
)
from scoring.selectors.plain import draw_lowest, plain_report
from scoring.subset import Subset
from scoring.weighted import weighted_keys

#: Train samples, and reference samples, that the classifier is fitted on, at most.
FIT_SAMPLES = 32_768
RIDGE = 1e-3
#: The ln of the ratio is kept within this, so that no sample is certain to be drawn or to be left.
LOG_RATIO_BOUND = 8.0
#: The draw of the classifier's samples is of its own.
_SEED = 0x44454E53


class DensityRatioSelector:
    """The score is the ln of the ratio; histories, targets and, where known, times decide it."""

    scores: tuple[str, ...] = ()
    features: tuple[str, ...] = ("target", "history", "user", "timestamp")
    sees_validation = True

    def select(self, shards: Shards, params: SelectionParams, reference: Reference | None = None) -> Selection:
        """Four passes over the shards, five with times, and two over the reference.

        Holds counts of items and the classifier's samples.

        Raises TooFewSamplesError, and SettingError without a reference.
        """
        reference = required_reference(reference, params.method)
        counts = survey(shards, self.scores)
        asked = asked_size(params.size, counts.samples)
        features = _count(shards, reference)
        model = _fit(shards, features, reference)

        def ranking(shard: ScoreShard) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.float32]]:
            ratio = model.log_odds(features(*_sample(shard)))
            score = np.clip(ratio, -LOG_RATIO_BOUND, LOG_RATIO_BOUND).astype(np.float32)
            return weighted_keys(shard.sample_id, np.exp(score.astype(np.float64)), params.seed), score

        rows = draw_lowest(shards, self.scores, min(asked, counts.usable), ranking)
        weights = dict(zip(features.names, model.weights.tolist(), strict=True))
        report = plain_report(params, counts, asked, len(rows), reference_samples=reference.samples, classifier=weights)
        return Selection.of(rows, report)


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


def _fit(shards: Shards, features: ReferenceFeatures, reference: Reference) -> Logistic:
    subset = Subset(FIT_SAMPLES, _SEED)
    for shard in shards():
        usable = _beside(shard.take(np.flatnonzero(usable_rows(shard, ()))), reference)
        subset.offer(usable.sample_id, features(*_sample(usable)))
    aimed = Subset(FIT_SAMPLES, _SEED)
    for part in reference.shards():
        aimed.offer(part.sample_id, features(part.history(), part.target, user_folds(part.user)))
    negative, positive = subset.values(), aimed.values()
    labels = np.arange(len(negative) + len(positive)) >= len(negative)
    return Logistic.fit(np.concatenate([negative, positive]), labels, RIDGE)


def _beside(shard: ScoreShard, reference: Reference) -> ScoreShard:
    """The train samples that are not of the reference: a sample counts on one side alone."""
    inside = reference.inside(shard.timestamp, len(shard.ok))
    return shard.take(np.flatnonzero(~inside)) if inside.any() else shard


def _sample(shard: ScoreShard) -> tuple[Ragged, npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """History, target and fold of each sample."""
    assert shard.history is not None
    assert shard.target is not None
    assert shard.user is not None
    return shard.history, shard.target, user_folds(shard.user)
