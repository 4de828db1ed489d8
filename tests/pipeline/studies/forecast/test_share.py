from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from cluster.storage import Storage
from pipeline.engine.config import Config
from pipeline.studies.forecast.share import LogSize, UserDraw, share_config, write_shares
from tests.small_log import small_log

USERS = 60


def config_of(path: Path, **data: object) -> Config:
    return Config.model_validate({"data": {"interactions": str(path), "split": "leave_one_out", **data}})


def test_a_share_holds_all_of_some_users_and_the_sizes_of_the_whole(tmp_path: Path) -> None:
    log = small_log(USERS)
    pq.write_table(log, tmp_path / "log.parquet")
    config = config_of(tmp_path / "log.parquet")
    out, other = Storage.at(tmp_path / "share"), Storage.at(tmp_path / "few")

    size = write_shares(config, 10, out, 3, other)

    assert size == LogSize(log.num_rows, USERS, len(set(log["item_id"].to_pylist())))
    share = out.read_table("log.parquet")
    chosen = set(share["user_id"].to_pylist())
    assert len(chosen) == 10
    assert share.num_rows == sum(user in chosen for user in log["user_id"].to_pylist())
    assert out.read_table("items.parquet").num_rows == size.items
    assert share_config(config, out).data.interactions == f"{out.uri}/log.parquet"

    few = other.read_table("log.parquet")
    assert len(set(few["user_id"].to_pylist()) & chosen) == 3
    assert set(other.read_table("items.parquet")["item_id"].to_pylist()) == set(few["item_id"].to_pylist())


def test_a_given_split_and_names_survive(tmp_path: Path) -> None:
    table = pa.table(
        {
            "who": ["a", "a", "a", "b"],
            "what": ["x", "y", "z", "x"],
            "position": [1, 2, 3, 1],
            "split": ["train", "valid", "test", "train"],
            "title": ["X", "Y", "Z", "X"],
        }
    )
    pq.write_table(table, tmp_path / "log.parquet")
    columns = {"user": "who", "item": "what"}
    out = Storage.at(tmp_path / "share")
    write_shares(config_of(tmp_path / "log.parquet", split="column", columns=columns), 9, out, 1, out.child("few"))
    rows = sorted(out.read_table("log.parquet").to_pylist(), key=lambda row: (row["user_id"], row["position"]))
    assert [row["split"] for row in rows] == ["train", "valid", "test", "train"]
    assert [row["item_id"] for row in rows] == ["x", "y", "z", "x"]


def test_a_split_by_the_names_of_files_survives(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    for number, part in enumerate(("train", "valid", "test")):
        rows = {"user_id": ["a"], "item_id": [part], "position": [number], "title": [part]}
        pq.write_table(pa.table(rows), (tmp_path / "log") / f"{part}.parquet")
    out = Storage.at(tmp_path / "share")
    config = config_of(tmp_path / "log", split="auto")
    write_shares(config, 9, out, 1, out.child("few"))
    assert {row["item_id"]: row["split"] for row in out.read_table("log.parquet").to_pylist()} == {
        "train": "train",
        "valid": "valid",
        "test": "test",
    }
    assert share_config(config, out).data.split == "column"


@given(st.lists(st.integers(0, 40), min_size=1, max_size=200), st.integers(1, 12))
def test_the_same_users_are_drawn_whatever_the_blocks(users: list[int], wanted: int) -> None:
    names = [f"u{user}" for user in users]
    order = np.random.default_rng(len(names)).permutation(len(names))
    drawn = []
    for pieces, rows in ((1, np.arange(len(names))), (7, order)):
        draw = UserDraw(wanted)
        for part in np.array_split(rows, pieces):
            draw.add(pa.table({"user": pa.array([names[row] for row in part], pa.string())}))
        drawn.append(sorted(draw.table()["user"].to_pylist()))
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) == min(wanted, len(set(names)))
    assert drawn[0] == sorted(name for name in names if name in set(drawn[0]))
