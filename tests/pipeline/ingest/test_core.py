"""The k-core of a log against a plain loop."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from cluster.errors import UserError
from cluster.progress import SilentProgress
from cluster.storage import Storage
from pipeline.engine.config import MinInteractionsConfig
from pipeline.ingest.ingest_log import ingest
from pipeline.ingest.ingest_spec import IngestSpec
from tests.pipeline.ingest.logs import make_log, read_parts, write

pytestmark = pytest.mark.usefixtures("ray_local")


def _plain_core(log: pd.DataFrame, user: int, item: int) -> tuple[pd.DataFrame, int]:
    log, rounds = log.drop_duplicates(["user_id", "item_id", "timestamp"]), 0
    while True:
        rounds += 1
        left = log[log.groupby("user_id")["item_id"].transform("size") >= user]
        left = left[left.groupby("item_id")["user_id"].transform("size") >= item]
        if len(left) == len(log):
            return left, rounds
        log = left


@pytest.mark.parametrize(
    ("user", "item"), [(6, 8), *(pytest.param(*one, marks=pytest.mark.slow) for one in ((5, 1), (1, 9)))]
)
@pytest.mark.parametrize("split", ["leave_one_out", pytest.param("global_time", marks=pytest.mark.slow)])
def test_the_core_is_that_of_a_plain_loop(tmp_path: Path, user: int, item: int, split: str) -> None:
    log = make_log(users=60, items=50, seed=4)
    log["title"] = "Title " + log["item_id"].astype(str)
    log = pd.concat([log, log.iloc[::7]])
    spec = IngestSpec(
        interactions=write(log, tmp_path / "log.parquet"),
        split=split,
        per_user="all",
        shards=5,
        min_interactions=MinInteractionsConfig(user=user, item=item),
    )
    out = Storage.at(tmp_path / "out")
    statistics = ingest(spec, out, SilentProgress(), rows_per_partition=100)
    core, rounds = _plain_core(log, user, item)
    assert rounds > 2 or 1 in (user, item), "a log that needs no repetition shows nothing"
    items = out.read_table("items.parquet").to_pylist()
    ids = {row["item_index"]: row["item_id"] for row in items}
    assert statistics["interactions"]["kept"] == len(core)
    distinct = len(log.drop_duplicates(["user_id", "item_id", "timestamp"]))
    assert statistics["dropped"]["min_interactions"] == distinct - len(core)
    assert statistics["dropped"]["duplicate"] == len(log) - distinct
    assert statistics["users"] == core["user_id"].nunique()
    wanted = log if item == 1 else core
    assert sorted(ids.values()) == sorted(wanted["item_id"].astype(str).unique())
    assert statistics["items"]["below_min_interactions"] == log["item_id"].nunique() - len(ids)
    assert statistics["items"]["log"] == core["item_id"].nunique()
    for row in read_parts(out, "samples/train"):
        known = set(core[core["user_id"].astype(str) == row["user_id"]]["item_id"].astype(str))
        assert {ids[index] for index in [*row["history"], row["target"]]} <= known  # type: ignore[misc]


def test_a_core_of_nothing_is_refused(tmp_path: Path) -> None:
    log = make_log(users=10)
    log["title"] = "T"
    source = write(log, tmp_path / "log.csv")
    spec = IngestSpec(interactions=source, min_interactions=MinInteractionsConfig(user=100))
    with pytest.raises(UserError, match=r"fewer than 100 interactions.*\n?.*Lower data.min_interactions"):
        ingest(spec, Storage.at(tmp_path / "out"), SilentProgress())
