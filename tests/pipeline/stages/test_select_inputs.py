from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cluster.shards import shard_name
from cluster.storage import Storage
from pipeline.engine.sample_tables import score_table
from pipeline.stages.select_inputs import SelectInputs
from scoring.ids import user_keys

IDS = np.array([3, 5, 9], dtype=np.int64)


def inputs(folder: Path, scores: tuple[str, ...], features: tuple[str, ...] = (), grand_ids: np.ndarray = IDS):
    run = Storage.at(folder)
    name = f"{shard_name(0)}.parquet"
    values = np.array([1.0, np.nan, 3.0], dtype=np.float32)
    run.write_table(f"influence/{name}", score_table(IDS, "influence", values, np.zeros(3, bool)))
    run.write_table(f"effort/{name}", score_table(IDS, "effort", values[::-1], np.array([False, False, True])))
    run.write_table(f"grand/{name}", pa.table({"sample_id": grand_ids, "grand": values}))
    pairs = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(6, dtype=np.float16)), 2)
    run.write_table(f"embedding/{name}", pa.table({"sample_id": IDS, "embedding": pairs}))
    samples = {
        "sample_id": IDS,
        "user_id": ["b", "a", "b"],
        "history": pa.array([[1], [2, 3], []], pa.list_(pa.int32())),
    }
    targets = {"target": pa.array([7, 8, 9], pa.int32()), "timestamp": pa.array([10, 20, 30], pa.int64())}
    run.write_table(f"data/samples/train/{name}", pa.table(samples | targets))
    folders = {name: run.child(name) for name in ("influence", "effort", "grand", "embedding")}
    return SelectInputs(run.child("data"), folders, scores, features)


@pytest.mark.parametrize(
    ("scores", "usable"),
    [((), [1, 1, 1]), (("influence",), [1, 0, 1]), (("effort",), [1, 0, 0]), (("influence", "effort"), [1, 0, 0])],
)
def test_a_row_is_ok_when_the_scores_that_are_needed_are(tmp_path: Path, scores, usable) -> None:
    assert inputs(tmp_path, scores).shard(0).ok.tolist() == usable


def test_gives_the_features_that_are_asked_for(tmp_path: Path) -> None:
    shard = inputs(tmp_path, (), ("target", "history", "user", "timestamp", "embedding")).shard(0)
    assert shard.target is not None
    assert shard.history is not None
    assert shard.user is not None
    assert shard.timestamp is not None
    assert shard.embedding is not None
    assert shard.target.tolist() == [7, 8, 9]
    assert shard.history.row(1).tolist() == [2, 3]
    assert shard.user.tolist() == user_keys(["b", "a", "b"]).tolist()
    assert shard.timestamp.tolist() == [10.0, 20.0, 30.0]
    assert shard.embedding.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert shard.score("grand")[2] == 3.0
    assert inputs(tmp_path, ()).shard(0).target is None


def test_files_of_other_samples_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="grand of shard 0"):
        inputs(tmp_path, (), grand_ids=IDS + 1).shard(0)


def test_scores_of_a_stage_that_is_not_there_are_unknown(tmp_path: Path) -> None:
    whole = inputs(tmp_path, ())
    shard = SelectInputs(whole.data, {}, (), ("target",)).shard(0)
    assert shard.sample_id.tolist() == IDS.tolist()
    assert shard.ok.all()
    assert np.isnan(shard.influence).all()
    assert np.isnan(shard.effort).all()
    one = SelectInputs(whole.data, {"effort": whole.folders["effort"]}, ("effort",), ()).shard(0)
    assert one.ok.tolist() == [1, 0, 0]
    assert np.isnan(one.influence).all()
