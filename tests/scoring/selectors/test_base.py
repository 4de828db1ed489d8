from __future__ import annotations

import numpy as np
import pytest

from scoring.exceptions import SettingError, TooFewSamplesError
from scoring.reference import required_reference
from scoring.selection import METHODS
from scoring.selectors.base import ScoreShard, SelectionParams
from scoring.selectors.coreset_size import asked_size, bounded_size, share_of
from scoring.selectors.score_survey import survey
from tests.scoring.selectors.samples import whole_shard


@pytest.mark.parametrize(
    ("method", "setting", "value"),
    [
        ("dealrec", "lambda", -0.1),
        ("top", "lambda", float("inf")),
        ("dealrec", "strata", 0),
        ("popularity", "strata", 2.5),
        ("ccs", "hard_prune", 1.0),
        ("top", "normalise", "softmax"),
        ("dealrec", "sampling", "greedy"),
        ("effort", "sharpness", 0.0),
        ("goracs", "transport_epsilon", float("inf")),
        ("goracs", "transport_points", 0),
        ("goracs", "transport_points", True),
    ],
)
def test_values_out_of_range_are_named(method, setting, value):
    with pytest.raises(SettingError, match=setting):
        METHODS[method]({setting: value})


@pytest.mark.parametrize("size", [0, -3, 2.5, float("nan"), float("inf")])
def test_a_size_is_a_share_or_a_whole_count(size):
    with pytest.raises(SettingError, match="size"):
        SelectionParams(size=size)


def test_settings_of_another_selector_are_refused_with_those_there_are():
    with pytest.raises(SettingError, match="no setting strata; the settings are normalise, lambda"):
        METHODS["top"]({"strata": 9})
    with pytest.raises(SettingError, match="this selector has none"):
        METHODS["random"]({"lambda": 0.5})


def test_a_share_is_rounded_down_and_no_more_than_there_are_are_taken():
    assert [bounded_size(size, 1000) for size in (0.0019, 0.9999, 1, 40, 5000)] == [1, 999, 1, 40, 1000]


@pytest.mark.parametrize(
    ("share", "count", "expected"), [(0.29, 100, 29), (0.1, 30, 3), (0.02, 49, 0), (1e-9, 10**9, 1)]
)
def test_shares_are_exact_decimals(share, count, expected):
    assert share_of(share, count) == expected


def test_size_is_a_share_or_a_count():
    assert asked_size(0.02, 10_000) == 200
    assert asked_size(0.02, 10) == 1
    assert asked_size(1, 10) == 1
    assert asked_size(10.0, 10) == 10
    with pytest.raises(TooFewSamplesError, match="only 10"):
        asked_size(11, 10)


def test_survey_counts_every_row_once():
    shard = ScoreShard(
        sample_id=np.arange(5),
        influence=np.array([1, np.nan, 3, -4, 9], dtype=np.float32),
        effort=np.array([1, 2, np.inf, 4, np.nan], dtype=np.float32),
        ok=np.array([True, True, True, True, False]),
    )
    total = survey(lambda: iter([shard, shard]), ("influence", "effort"))
    assert total.facts() == {"samples": 10, "usable": 4, "not_ok": 2, "nonfinite": 4}
    assert (total.low["influence"], total.high["influence"]) == (-4, 1)
    assert survey(lambda: iter([shard]), ()).usable == 4


def test_nothing_usable_is_refused():
    shard = ScoreShard(np.arange(2), np.zeros(2, np.float32), np.zeros(2, np.float32), np.zeros(2, bool))
    with pytest.raises(TooFewSamplesError, match="usable"):
        survey(lambda: iter([shard]), ())
    with pytest.raises(TooFewSamplesError):
        survey(lambda: iter([]), ())


def test_a_shard_gives_rows_with_all_that_belongs_to_them():
    shard = whole_shard(8)
    part = shard.take(np.array([5, 2]))
    assert part.sample_id.tolist() == shard.sample_id[[5, 2]].tolist()
    assert part.score("el2n").tolist() == shard.columns["el2n"][[5, 2]].tolist()
    assert part.score("effort").tolist() == shard.effort[[5, 2]].tolist()
    assert part.history is not None
    assert shard.history is not None
    assert part.history.row(0).tolist() == shard.history.row(5).tolist()
    assert part.embedding is not None
    assert part.embedding.shape == (2, 6)


def test_an_aimed_selector_needs_a_reference():
    with pytest.raises(SettingError, match="density_ratio needs"):
        required_reference(None, "density_ratio")
