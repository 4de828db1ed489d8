from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.engine.config import AuditConfig, InfluenceConfig
from pipeline.studies.audit.audit_arms import CONTROLS, AuditArm, removal_arms, score_groups, score_specs, subset_arms

IDS = np.arange(1000, dtype=np.int64)
SCOPES = ("last_layer", "linear")


def test_every_combination_is_tried_once_and_undamped_solvers_once_a_scope() -> None:
    audit = AuditConfig(solvers=("none", "cg"), dampings=(0.1, 1.0))
    labels = [spec.label for spec in score_specs(audit, InfluenceConfig(), SCOPES)]
    assert labels == [
        "none/last_layer",
        "none/linear",
        "cg/last_layer/0.1",
        "cg/last_layer/1",
        "cg/linear/0.1",
        "cg/linear/1",
        *CONTROLS,
    ]


def test_the_ways_of_a_scope_share_their_passes() -> None:
    audit = AuditConfig(solvers=("none", "cg"), dampings=(0.1,))
    groups = [[spec.label for spec in group] for group in score_groups(score_specs(audit, InfluenceConfig(), SCOPES))]
    assert groups[:2] == [["none/last_layer", "cg/last_layer/0.1"], ["none/linear", "cg/linear/0.1"]]
    assert groups[2:] == [[control] for control in CONTROLS]


def test_a_solver_keeps_the_configured_tolerance() -> None:
    specs = score_specs(AuditConfig(solvers=("cg",)), InfluenceConfig(tolerance=1e-7), SCOPES)
    assert specs[0].settings is not None
    assert specs[0].settings.tolerance == 1e-7


@pytest.mark.parametrize(
    "twice", [{"scopes": ("all", "all")}, {"dampings": (0.01, 0.010000001)}, {"solvers": ("cg", "cg")}]
)
def test_what_would_have_the_same_name_is_refused(twice: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a list of different values"):
        AuditConfig(**twice)


def test_the_smallest_removal_is_one_sample() -> None:
    assert int(AuditArm("random", 0.1, 1).removed(IDS[:4], None).sum()) == 1
    assert int(AuditArm("whole").removed(IDS[:4], None).sum()) == 0


@pytest.mark.parametrize("kind", ["top", "bottom"])
def test_extremes_are_removed_by_score(kind: str) -> None:
    scores = np.random.default_rng(0).permutation(1000).astype(np.float32)
    removed = AuditArm(kind, 0.1, score="x").removed(IDS, scores)
    expected = scores >= 900 if kind == "top" else scores < 100
    assert np.array_equal(removed, expected)


def test_random_removals_have_their_size_and_differ_by_seed() -> None:
    arms = subset_arms(AuditConfig(subsets=5))
    masks = [arm.removed(IDS, None) for arm in arms]
    assert [int(mask.sum()) for mask in masks] == [0, 500, 500, 500, 500, 500]
    assert len({mask.tobytes() for mask in masks}) == 6
    assert not np.array_equal(masks[1], subset_arms(AuditConfig(seed=1))[1].removed(IDS, None))


def test_each_score_loses_its_top_and_its_bottom_beside_random_ones() -> None:
    arms = removal_arms(AuditConfig(draws=2), ["a", "b"])
    assert [(arm.kind, arm.score) for arm in arms] == [
        ("random", None),
        ("random", None),
        ("top", "a"),
        ("bottom", "a"),
        ("top", "b"),
        ("bottom", "b"),
    ]
