"""What must be known of the whole log before it can be divided: sizes, items, the range of its times."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.ingest.reading import KEPT, LOW_RATING, NO_RATING
from pipeline.ingest.vocabulary import count_items, merge_counts
from scoring.ids import sample_ids

_SKETCH = 4096
_HASH_RANGE = float(1 << 63)
_WHOLE_LIMIT = 2.0**62
_MAX_SHARDS = 8192


@dataclass(frozen=True)
class Survey:
    """Totals over the normalised log.

    Attributes
    ----------
    rows : rows by reason: kept, rated too low, without rating.
    users : distinct users, exact up to 4095, then estimated to about 1.6%.
    items : item, title, count of kept rows.
    whole_timestamps : every timestamp is a whole number, so that int64 holds it.
    earliest, latest : bounds of the timestamps; NaN without any.
    """

    rows: tuple[int, int, int]
    users: int
    items: pa.Table
    whole_timestamps: bool
    earliest: float
    latest: float


def survey_block(block: pa.Table) -> pa.Table:
    """One row with what a block adds to the survey."""
    reasons = np.bincount(block["reason"].to_numpy(), minlength=3)[[KEPT, LOW_RATING, NO_RATING]]
    kept = block.filter(pc.equal(block["reason"], KEPT))
    items = count_items(kept)
    whole, earliest, latest = True, math.nan, math.nan
    if "timestamp" in kept.column_names and kept.num_rows:
        times = kept["timestamp"].to_numpy()
        earliest, latest = float(times.min()), float(times.max())
        whole = bool(np.all(np.floor(times) == times)) and max(-earliest, latest) < _WHOLE_LIMIT
    row = {
        "reasons": pa.array([reasons]),
        "users": pa.array([least_hashes(user_hashes(kept["user"]))]),
        "whole": pa.array([whole]),
        "earliest": pa.array([earliest]),
        "latest": pa.array([latest]),
    }
    return pa.table({**row, **{name: _as_row(items[name]) for name in items.column_names}})


def _as_row(column: pa.ChunkedArray) -> pa.Array:
    values = column.combine_chunks()
    return pa.LargeListArray.from_arrays(pa.array([0, len(values)], pa.int64()), values)


def _values(cell: pa.ChunkedArray) -> pa.Array:
    return cell.combine_chunks().flatten()


def merge_surveys(rows: Iterable[pa.Table]) -> Survey:
    """The survey of the whole log from those of its blocks."""
    reasons = np.zeros(3, dtype=np.int64)
    hashes = np.empty(0, dtype=np.int64)
    times: list[tuple[float, float]] = []
    whole = True

    def items_of_each() -> Iterator[pa.Table]:
        nonlocal reasons, hashes, whole
        for table in rows:
            for index in range(table.num_rows):
                row = table.slice(index, 1)
                reasons = reasons + _values(row["reasons"]).to_numpy()
                hashes = least_hashes(np.concatenate([hashes, _values(row["users"]).to_numpy()]))
                whole = whole and bool(row["whole"][0].as_py())
                times.append((row["earliest"][0].as_py(), row["latest"][0].as_py()))
                yield pa.table({name: _values(row[name]) for name in ("item", "title", "count")})

    items = merge_counts(items_of_each())
    known = [bounds for bounds in times if not math.isnan(bounds[0])]
    return Survey(
        rows=(int(reasons[0]), int(reasons[1]), int(reasons[2])),
        users=estimate_distinct(hashes),
        items=items,
        whole_timestamps=whole,
        earliest=min((bounds[0] for bounds in known), default=math.nan),
        latest=max((bounds[1] for bounds in known), default=math.nan),
    )


def user_hashes(users: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Uniform 63-bit hashes of the distinct users."""
    distinct = pc.unique(users).to_pylist()
    return sample_ids(distinct, np.zeros(len(distinct), dtype=np.int64))


def least_hashes(hashes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The 4096 least distinct hashes: a sketch of a set whose union is the sketch of the sketches."""
    return np.unique(hashes)[:_SKETCH]


def estimate_distinct(sketch: npt.NDArray[np.int64]) -> int:
    """How many distinct values a sketch stands for (k minimum values, Bar-Yossef et al. 2002)."""
    if len(sketch) < _SKETCH:
        return len(sketch)
    return round((_SKETCH - 1) * _HASH_RANGE / float(sketch[-1]))


def shard_count(rows: int, users: int, per_user: Literal["all"] | int) -> int:
    """How many shards suit a log, from an upper bound of its train samples: ⌈√bound / 4⌉, 1 to 8192.

    Shards and the samples in each grow alike, and neither depends on the cluster.
    """
    bound = rows if per_user == "all" else min(rows, users * per_user)
    return min(_MAX_SHARDS, max(1, math.ceil(math.sqrt(bound) / 4)))
