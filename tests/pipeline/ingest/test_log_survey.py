"""Totals over a log, and what follows from them."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from pipeline.ingest.log_survey import (
    estimate_distinct,
    least_hashes,
    merge_surveys,
    shard_count,
    survey_block,
    user_hashes,
)
from pipeline.ingest.values.spelling import twins


def _block(users: list[str | None], times: list[float | None], reasons: list[int]) -> pa.Table:
    return pa.table(
        {
            "user": pa.array(users, pa.string()),
            "item": pa.array(["i" if user else None for user in users], pa.string()),
            "timestamp": pa.array(times, pa.float64()),
            "reason": pa.array(reasons, pa.uint8()),
        }
    )


def test_blocks_add_up() -> None:
    blocks = [
        _block(["a", "b", None], [1.0, 5.0, None], [0, 0, 1]),
        _block([None, "b"], [None, -2.0], [2, 0]),
    ]
    survey = merge_surveys(survey_block(block) for block in [*blocks, blocks[0].slice(2)])
    assert survey.rows == (3, 2, 1)
    assert survey.users == 2
    assert survey.items["count"].to_pylist() == [3]
    assert (survey.earliest, survey.latest, survey.whole_timestamps) == (-2.0, 5.0, True)


def test_one_fraction_makes_all_timestamps_floats() -> None:
    blocks = [_block(["a"], [1.0], [0]), _block(["a"], [1.5], [0])]
    assert not merge_surveys(survey_block(block) for block in blocks).whole_timestamps


def test_a_log_without_rows() -> None:
    survey = merge_surveys([survey_block(_block([], [], []))])
    assert survey.rows == (0, 0, 0)
    assert math.isnan(survey.earliest)


@pytest.mark.parametrize(("users", "tolerance"), [(100, 0.0), (4095, 0.0), (60_000, 0.06)])
def test_users_are_counted_without_keeping_them(users: int, tolerance: float) -> None:
    halves = [pa.chunked_array([[f"user{number}" for number in range(low, users)]]) for low in (0, users // 2)]
    sketch = least_hashes(np.concatenate([least_hashes(user_hashes(half)) for half in halves]))
    assert abs(estimate_distinct(sketch) - users) <= tolerance * users


def test_spellings_of_a_user_are_drawn_together() -> None:
    """Half of 20,000 users have a second spelling in another block; the draw must have both or neither."""
    blocks = [
        _block([f"{number}" for number in range(20_000)], [1.0] * 20_000, [0] * 20_000),
        _block([f"{number}.0" for number in range(0, 20_000, 2)], [2.0] * 10_000, [0] * 10_000),
    ]
    surveys = [merge_surveys(survey_block(block) for block in order) for order in (blocks, blocks[::-1])]
    (found,) = twins(surveys[0].some_users)
    assert set(surveys[0].some_users.to_pylist()) == set(surveys[1].some_users.to_pylist())
    assert abs(found.count / (found.of - found.count) - 0.5) < 0.05
    assert all(second == f"{first}.0" for first, second in found.pairs)
    assert abs(surveys[0].users - 20_000) < 1000
    assert surveys[0].numeric_users


def test_words_among_the_users_are_counted() -> None:
    blocks = [_block(["nan", "7", "nan"], [1.0] * 3, [0] * 3), _block(["nan", "NULL"], [1.0] * 2, [0] * 2)]
    survey = merge_surveys(survey_block(block) for block in blocks)
    assert survey.missing_users == {"nan": 3, "NULL": 1}
    assert survey.numeric_users
    assert not merge_surveys(survey_block(block) for block in [*blocks, _block(["u7"], [1.0], [0])]).numeric_users


@pytest.mark.parametrize(
    ("rows", "users", "per_user", "shards"),
    [(10, 3, 1, 1), (100_000, 943, 1, 8), (100_000, 943, "all", 80), (10**12, 10**10, 1, 8192), (0, 0, 1, 1)],
)
def test_shards_follow_the_data(rows: int, users: int, per_user, shards: int) -> None:
    assert shard_count(rows, users, per_user) == shards
