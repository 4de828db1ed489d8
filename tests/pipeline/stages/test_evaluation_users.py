"""The draw of users reads shard by shard what it would draw from all of them at once."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import UserError
from cluster.storage import Storage
from pipeline.stages.evaluation_users import draw_test_users, draw_users
from scoring.ids import draw_order, sample_ids

USERS = [f"u{number}" for number in range(40)]
IDS = sample_ids(USERS, [3] * len(USERS))


def write(folder: Storage, cuts: list[int]) -> None:
    lists = pa.array([[row] for row in range(len(USERS))], pa.list_(pa.int32()))
    whole = pa.table({"sample_id": IDS, "user_id": USERS, "history": lists, "targets": lists, "seen": lists})
    edges = [0, *sorted(cuts), len(USERS)]
    for index, (start, end) in enumerate(pairwise(edges)):
        folder.write_table(f"part-{index:05d}.parquet", whole.slice(start, end - start))


@given(st.lists(st.integers(0, len(USERS)), max_size=4), st.integers(1, 50), st.integers(0, 3), st.booleans())
def test_a_draw_does_not_depend_on_the_shards(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], users: int, seed: int, half: bool
) -> None:
    folder = Storage.at(tmp_path_factory.mktemp("users"))
    write(folder, cuts)
    drawn = draw_users(folder, users, seed, (lambda ids: ids % 2 == 0) if half else None)
    able = [row for row in range(len(USERS)) if not half or IDS[row] % 2 == 0]
    expected = sorted(able, key=lambda row: draw_order(IDS[row : row + 1], seed)[0])[:users]
    assert drawn["user_id"].to_pylist() == [USERS[row] for row in expected]
    assert drawn["targets"].to_pylist() == [[row] for row in expected]


def test_all_are_asked_and_none_is_the_users_fault(tmp_path: Path) -> None:
    data = Storage.at(tmp_path)
    write(data.child("samples", "test"), [7])
    everyone = draw_test_users(data, "all", 0)
    assert sorted(everyone["user_id"].to_pylist()) == sorted(USERS)
    np.testing.assert_array_equal(everyone["sample_id"].to_numpy(), draw_test_users(data, 99, 0)["sample_id"])
    data.write_table("samples/test/part-00000.parquet", everyone.slice(0, 0))
    data.delete("samples/test/part-00001.parquet")
    with pytest.raises(UserError, match="no test user"):
        draw_test_users(data, "all", 0)
