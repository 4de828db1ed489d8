"""What must be known about the whole log before it can be divided: sizes, items, the range of its times."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.ingest.reading import KEPT, LOW_RATING, NO_ID, NO_RATING, PADDED
from pipeline.ingest.values.id_text import text_bytes
from pipeline.ingest.values.missing import looks_missing
from pipeline.ingest.values.spelling import plain_spelling
from pipeline.ingest.values.time_facts import TimeFacts, merge_time_facts, no_times, time_facts
from pipeline.ingest.vocabulary import count_items, merge_counts
from scoring.ids import sample_ids

_SKETCH = 4096
_HASH_RANGE = float(1 << 63)
_WHOLE_LIMIT = 2.0**62
_MAX_SHARDS = 8192
_REASONS = PADDED + 1
_GLANCE = 256
_NUMBER_OR_WORD = r"^(-?\d+(\.0*)?|\D*)$"


@dataclass(frozen=True)
class LogSurvey:
    """Totals over the normalised log.

    Attributes
    ----------
    rows : the number of rows that are kept, rated too low, and without a rating.
    users : the number of distinct users, exact up to 4095, then estimated to about 1.6%; spellings of one id count
        once.
    items : a table of item, title (the least), other (the greatest title) and count of kept rows.
    whole_timestamps : whether every timestamp is a whole number that int64 holds.
    missing_ids : the number of rows left out because they have no user or no item id.
    padded_ids : the number of kept rows with blanks around an id.
    times : the summary of all timestamps.
    some_users : ids of up to 4,095 users, drawn by hash, in all their spellings.
    numeric_users : whether all user ids but those in `missing_users` are whole numbers.
    missing_users : the number of rows of each user id that reads like a missing value.
    """

    rows: tuple[int, int, int]
    users: int
    items: pa.Table
    whole_timestamps: bool
    missing_ids: int
    padded_ids: int
    times: TimeFacts
    some_users: pa.Array
    numeric_users: bool
    missing_users: Mapping[str, int]

    @property
    def earliest(self) -> float:
        """The earliest timestamp; NaN if there is none."""
        return self.times.low

    @property
    def latest(self) -> float:
        """The latest timestamp; NaN if there is none."""
        return self.times.high


def survey_block(block: pa.Table) -> pa.Table:
    """Return one row with what a block adds to the survey."""
    reasons = np.bincount(block["reason"].to_numpy(), minlength=_REASONS)
    kept = block.filter(pc.equal(block["reason"], KEPT))
    items = count_items(kept)
    whole, times = True, no_times()
    if "timestamp" in kept.column_names and kept.num_rows:
        values = kept["timestamp"].to_numpy()
        times = time_facts(values)
        whole = bool(np.all(np.floor(values) == values)) and max(-times.low, times.high) < _WHOLE_LIMIT
    users = pc.unique(kept["user"])
    hashes, some = _draw(_hashes(plain_spelling(users)), users)
    missing = users.filter(looks_missing(users))
    row = {
        "reasons": pa.array([reasons]),
        "users": pa.array([hashes]),
        "some_users": _as_row(some),
        "numeric": pa.array([are_numbers(users)]),
        "missing": _as_row(missing),
        "missing_rows": pa.array([[_occurrences(kept["user"], user) for user in missing]], pa.list_(pa.int64())),
        "whole": pa.array([whole]),
        "times": pa.array([times.as_list()]),
    }
    return pa.table({**row, **{name: _as_row(items[name]) for name in items.column_names}})


def _occurrences(values: pa.ChunkedArray, value: pa.Scalar) -> int:
    return int(pc.sum(pc.equal(values, value)).as_py() or 0)


def are_numbers(ids: pa.Array) -> bool:
    """Return whether all ids but those that look missing are whole numbers, with or without a zero fraction."""
    if not pc.all(pc.match_substring_regex(ids.slice(0, _GLANCE), _NUMBER_OR_WORD)).as_py():
        return False
    data = text_bytes(ids)
    if len(data) and data.min() >= ord("0") and data.max() <= ord("9"):
        return True
    return bool(pc.all(pc.or_(pc.match_substring_regex(ids, r"^-?\d+(\.0*)?$"), looks_missing(ids))).as_py())


def _draw(hashes: npt.NDArray[np.int64], users: pa.Array) -> tuple[npt.NDArray[np.int64], pa.Array]:
    """Return the rows with the 4096 smallest distinct hashes."""
    if len(hashes) > _SKETCH:
        chosen = np.flatnonzero(hashes <= least_hashes(hashes)[-1])
        hashes, users = hashes[chosen], users.take(pa.array(chosen))
    return hashes, users


def _as_row(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    values = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return pa.LargeListArray.from_arrays(pa.array([0, len(values)], pa.int64()), values)


def _values(cell: pa.ChunkedArray) -> pa.Array:
    return cell.combine_chunks().flatten()


class _Sketch:
    """The smallest hashes of all users seen, with their ids in every spelling."""

    def __init__(self) -> None:
        self.hashes = np.empty(0, dtype=np.int64)
        self.users = pa.array([], pa.string())

    def add(self, hashes: npt.NDArray[np.int64], users: pa.Array) -> None:
        both = np.concatenate([self.hashes, hashes])
        joined = pa.concat_arrays([self.users, users])
        seen = pc.unique(joined)
        first = pc.index_in(seen, value_set=joined).to_numpy()
        self.hashes, self.users = _draw(both[first], seen)


def merge_surveys(rows: Iterable[pa.Table]) -> LogSurvey:
    """Merge the surveys of all blocks into that of the whole log."""
    reasons = np.zeros(_REASONS, dtype=np.int64)
    sketch = _Sketch()
    times: list[TimeFacts] = []
    missing: Counter[str] = Counter()
    whole = numeric = True

    def items_of_each() -> Iterator[pa.Table]:
        nonlocal reasons, whole, numeric
        for table in rows:
            for index in range(table.num_rows):
                row = table.slice(index, 1)
                reasons = reasons + _values(row["reasons"]).to_numpy()
                sketch.add(_values(row["users"]).to_numpy(), _values(row["some_users"]))
                whole = whole and bool(row["whole"][0].as_py())
                numeric = numeric and bool(row["numeric"][0].as_py())
                words, counts = _values(row["missing"]).to_pylist(), _values(row["missing_rows"]).to_pylist()
                missing.update(dict(zip(words, counts, strict=True)))
                times.append(TimeFacts.from_list(_values(row["times"]).to_numpy()))
                yield pa.table({name: _values(row[name]) for name in ("item", "title", "other", "count")})

    items = merge_counts(items_of_each())
    return LogSurvey(
        rows=(int(reasons[KEPT]), int(reasons[LOW_RATING]), int(reasons[NO_RATING])),
        users=estimate_distinct(least_hashes(sketch.hashes)),
        items=items,
        whole_timestamps=whole,
        missing_ids=int(reasons[NO_ID]),
        padded_ids=int(reasons[PADDED]),
        times=merge_time_facts(times),
        some_users=sketch.users,
        numeric_users=numeric,
        missing_users=missing,
    )


def user_hashes(users: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Return uniform 63-bit hashes of the distinct users."""
    return _hashes(pc.unique(users))


def _hashes(users: pa.Array) -> npt.NDArray[np.int64]:
    return sample_ids(users.to_pylist(), np.zeros(len(users), dtype=np.int64))


def least_hashes(hashes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the 4096 smallest distinct hashes, a sketch that merges by union."""
    return np.unique(hashes)[:_SKETCH]


def estimate_distinct(sketch: npt.NDArray[np.int64]) -> int:
    """Estimate how many distinct values a sketch stands for (k minimum values, Bar-Yossef et al. 2002)."""
    if len(sketch) < _SKETCH:
        return len(sketch)
    return round((_SKETCH - 1) * _HASH_RANGE / float(sketch[-1]))


def shard_count(rows: int, users: int, per_user: Literal["all"] | int) -> int:
    """Return how many shards suit a log, from an upper bound of its train samples: ⌈√bound / 4⌉, 1 to 8192.

    The number of shards and the samples in each grow at the same rate, and neither depends on the cluster.
    """
    bound = rows if per_user == "all" else min(rows, users * per_user)
    return min(_MAX_SHARDS, max(1, math.ceil(math.sqrt(bound) / 4)))
