"""Stage select: from two scores a sample to a coreset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.errors import UserError
from cluster.shards import shard_name
from cluster.storage import Storage
from pipeline.config import SelectConfig
from pipeline.graph import StageContext
from pipeline.tables import TRAIN_SAMPLES, train_shards
from scoring.errors import TooFewSamplesError
from scoring.selection import ScoreShard, Selection, SelectionParams, required_scores, select


def selection_params(section: SelectConfig) -> SelectionParams:
    return SelectionParams(
        method=section.method,
        size=section.size if section.size < 1 else int(section.size),
        lambda_=section.lambda_,
        strata=section.strata,
        hard_prune=section.hard_prune,
        normalise=section.normalise,
        seed=section.seed,
    )


def run_select(context: StageContext) -> Mapping[str, Any]:
    """Stream over the score files, choose, and write the coreset with its report."""
    data = context.folder("ingest")
    scores = {name: context.folder(name) for name in ("influence", "effort")}
    params = selection_params(context.config.select)
    indices = train_shards(data)
    passes = 0

    def shards() -> Iterator[ScoreShard]:
        nonlocal passes
        passes += 1
        context.progress.update(0, 1, passes=passes)
        for index in indices:
            yield read_scores(scores, index, required_scores(params.method))

    try:
        selection = select(shards, params)
    except TooFewSamplesError as error:
        raise UserError(
            f"select.size: {error}.", "Lower select.size, or take more samples by samples.per_user."
        ) from error
    table = coreset_table(data, indices, selection)
    context.out.write_table("coreset.parquet", table)
    context.out.write_json("selection.json", selection.report)
    context.progress.update(1, 1, chosen=table.num_rows)
    return {key: selection.report[key] for key in ("samples", "usable", "budget", "chosen", "warnings")}


def read_scores(folders: Mapping[str, Storage], index: int, required: Sequence[str]) -> ScoreShard:
    """Both scores of a shard; a row is usable when every score that the selector requires is."""
    columns: dict[str, npt.NDArray[np.float32]] = {}
    usable: npt.NDArray[np.bool_] | None = None
    sample_id: npt.NDArray[np.int64] | None = None
    for name, folder in folders.items():
        table = folder.read_table(f"{shard_name(index)}.parquet")
        ids = table.column("sample_id").to_numpy()
        if sample_id is not None and not np.array_equal(ids, sample_id):
            raise ValueError(f"the {name} scores of shard {index} are of other samples")
        sample_id = ids
        columns[name] = table.column(name).to_numpy()
        ok = table.column("status").to_numpy(zero_copy_only=False) == "ok"
        if name in required:
            usable = ok if usable is None else usable & ok
    assert sample_id is not None
    if usable is None:
        usable = np.ones(len(sample_id), dtype=np.bool_)
    return ScoreShard(sample_id, columns["influence"], columns["effort"], usable)


def coreset_table(data: Storage, indices: Sequence[int], selection: Selection) -> pa.Table:
    """The chosen samples with their scores, ordered by sample id."""
    chosen = pa.array(selection.sample_id, pa.int64())
    parts = []
    for index in indices:
        samples = data.read_table(
            f"{TRAIN_SAMPLES}/{shard_name(index)}.parquet", ["sample_id", "user_id", "history", "target"]
        )
        parts.append(samples.filter(pa.compute.is_in(samples.column("sample_id"), value_set=chosen)))
    samples = pa.concat_tables(parts).sort_by("sample_id")
    scores = {
        "influence": pa.array(selection.influence, pa.float32()),
        "effort": pa.array(selection.effort, pa.float32()),
        "score": pa.array(selection.score, pa.float32()),
        "stratum": pa.array(selection.stratum, pa.int32()),
    }
    if samples.column("sample_id").to_numpy().tolist() != selection.sample_id.tolist():
        raise ValueError("the selection names samples that the data does not hold")
    for name, column in scores.items():
        samples = samples.append_column(name, column)
    return samples
