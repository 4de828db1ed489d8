"""The inputs of a selector, shard by shard: scores, samples, and features from the surrogate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.shards import shard_name
from cluster.storage import Storage
from pipeline.engine.sample_tables import TRAIN_SAMPLES, SampleShard, read_samples, read_user_keys
from pipeline.stages.effort_candidates import Candidates
from pipeline.stages.reference_period import read_timestamps
from scoring.selection import ScoreShard

_SCORE_STAGES = ("influence", "effort")


@dataclass(frozen=True)
class SelectInputs:
    """The files that a selector reads, and which of them it needs.

    Attributes
    ----------
    data : the run's data folder.
    folders : the folders of the available score stages, and of the needed features of the surrogate. The scores of a
        missing stage are NaN.
    scores : the scores that decide whether a sample may be chosen.
    features : what else the selector needs: any of target, history, user, timestamp and embedding.
    candidates : the samples that were given an effort score; None if all were, or if the selector needs none.
    """

    data: Storage
    folders: Mapping[str, Storage]
    scores: Sequence[str]
    features: Sequence[str]
    candidates: Candidates | None = None

    def shards(self, indices: Sequence[int]) -> Iterator[ScoreShard]:
        """Yield the shards, in one pass."""
        for index in indices:
            yield self.shard(index)

    def shard(self, index: int) -> ScoreShard:
        """Read one shard; a row is ok if all stage scores that the selector needs are.

        Raises `ValueError` when two files are of different samples.
        """
        columns: dict[str, npt.NDArray[np.float32]] = {}
        embedding: npt.NDArray[np.float32] | None = None
        ok: npt.NDArray[np.bool_] | None = None
        sample_id: npt.NDArray[np.int64] | None = None
        for name, folder in self.folders.items():
            table = folder.read_table(f"{shard_name(index)}.parquet")
            ids = table.column("sample_id").to_numpy()
            if sample_id is not None and not np.array_equal(ids, sample_id):
                raise ValueError(f"the {name} of shard {index} is of other samples")
            sample_id = ids
            if name == "embedding":
                embedding = _matrix(table.column(name))
                continue
            columns[name] = table.column(name).to_numpy()
            if name in _SCORE_STAGES and name in self.scores:
                usable = table.column("status").to_numpy(zero_copy_only=False) == "ok"
                ok = usable if ok is None else ok & usable
        if sample_id is None:
            name = f"{TRAIN_SAMPLES}/{shard_name(index)}.parquet"
            sample_id = self.data.read_table(name, ["sample_id"]).column("sample_id").to_numpy()
        unknown = np.full(len(sample_id), np.nan, dtype=np.float32)
        influence, effort = (columns.pop(name, unknown) for name in _SCORE_STAGES)
        return ScoreShard(
            sample_id,
            influence,
            effort,
            np.ones(len(sample_id), dtype=np.bool_) if ok is None else ok,
            columns,
            embedding=embedding,
            weight=None if self.candidates is None else self.candidates.weights(index),
            **self._of_samples(index, sample_id),
        )

    def _of_samples(self, index: int, sample_id: npt.NDArray[np.int64]) -> dict[str, Any]:
        """Read the features that the samples themselves hold."""
        features: dict[str, Any] = {}
        if "target" in self.features or "history" in self.features:
            samples: SampleShard = read_samples(self.data, index)
            if not np.array_equal(samples.sample_id, sample_id):
                raise ValueError(f"the scores of shard {index} are of other samples")
            features = {"target": samples.target, "history": samples.history}
        if "user" in self.features:
            features["user"] = read_user_keys(self.data, index)
        if "timestamp" in self.features:
            features["timestamp"] = read_timestamps(self.data, index)
        return features


def _matrix(column: pa.ChunkedArray) -> npt.NDArray[np.float32]:
    """Return a column of lists of one length as float32 [N, d]."""
    array = column.combine_chunks()
    flat = array.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    return flat.reshape(len(array), array.type.list_size)
