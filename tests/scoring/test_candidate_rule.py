import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scoring.candidate_rule import CandidateRule


def rule_over(parts: list[np.ndarray], share: float) -> CandidateRule:
    return CandidateRule.over(lambda: iter(parts), share)


@given(st.integers(0, 2**31), st.sampled_from([0.1, 0.3, 1.0]), st.integers(1, 5))
def test_the_rule_does_not_depend_on_the_shards(seed: int, share: float, cuts: int) -> None:
    scores = np.random.default_rng(seed).normal(size=400).astype(np.float32)
    ids = np.arange(400, dtype=np.int64)
    whole = rule_over([scores], share)
    assert rule_over(np.array_split(scores, cuts), share) == whole
    chosen = np.concatenate(
        [whole.chosen(i, s) for i, s in zip(np.array_split(ids, cuts), np.array_split(scores, cuts), strict=True)]
    )
    assert np.array_equal(chosen, whole.chosen(ids, scores))


def test_about_the_share_is_drawn_and_the_tails_are_kept() -> None:
    scores = np.random.default_rng(0).normal(size=20_000).astype(np.float32)
    scores[:3] = (9, -9, 8)
    chosen = rule_over([scores], 0.2).chosen(np.arange(20_000, dtype=np.int64), scores)
    assert 0.18 < chosen.mean() < 0.22
    assert chosen[:3].all()


def test_candidates_stand_for_the_log() -> None:
    scores = np.random.default_rng(1).normal(size=20_000).astype(np.float32)
    rule = rule_over([scores], 0.1)
    chosen = rule.chosen(np.arange(20_000, dtype=np.int64), scores)
    weights = rule.weights(scores[chosen]) / 1000
    assert abs(weights.sum() - 20_000) < 1_500
    assert abs(np.average(scores[chosen] > 1.2816, weights=weights) - np.mean(scores > 1.2816)) < 0.02
    assert np.mean(scores[chosen] > 1.2816) > 0.15
    assert CandidateRule.of(json.loads(json.dumps(rule.facts()))) == rule


def test_all_are_candidates_at_one_and_none_that_is_not_finite() -> None:
    scores = np.array([1, 2, np.nan, np.inf, 3], dtype=np.float32)
    assert rule_over([scores], 1.0).chosen(np.arange(5), scores).tolist() == [True, True, False, False, True]
