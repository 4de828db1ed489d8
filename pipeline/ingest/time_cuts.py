"""Find the moments that divide a log by time, without collecting its timestamps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray.data

from pipeline.ingest.log_survey import LogSurvey
from pipeline.ingest.shuffle import passed
from pipeline.ingest.splits import (
    Bins,
    TimeCuts,
    count_bins,
    cut_ranks,
    empty_histogram,
    key_time,
    select_keys,
    time_keys,
)


def find_cuts(interactions: ray.data.Dataset, survey: LogSurvey) -> TimeCuts:
    """Find the exact cuts at 80% and 90% of the interactions in the order of time.

    Parameters
    ----------
    interactions : without duplicates, with a `timestamp` column; passed over two to four times.
    survey : the survey that holds the bounds of the timestamps.
    """
    whole = survey.whole_timestamps

    def count(places: Sequence[Bins]) -> list[npt.NDArray[np.int64]]:
        histograms = [empty_histogram() for _ in places]
        for rows in passed(interactions, count_block, places=tuple(places), whole=whole):
            for which, bins, counts in zip(*(rows[name] for name in rows.column_names), strict=True):
                histograms[which.as_py()][bins.values.to_numpy()] += counts.values.to_numpy()
        return histograms

    bounds = time_keys(np.array([survey.earliest, survey.latest]), whole)
    keys = select_keys(count, cut_ranks(interactions.count()), int(bounds[0]), int(bounds[1]))
    return TimeCuts(*(key_time(key, whole) for key in keys))


def count_block(block: pa.Table, places: Sequence[Bins], whole: bool) -> pa.Table:
    """Return one row per requested histogram: which one, the bins that are not empty, and their counts."""
    keys = time_keys(block["timestamp"].to_numpy(), whole)
    counted = [count_bins(keys, bins) for bins in places]
    return pa.table(
        {
            "which": pa.array(range(len(places)), pa.int64()),
            "bins": pa.array([bins for bins, _ in counted], pa.list_(pa.int64())),
            "counts": pa.array([counts for _, counts in counted], pa.list_(pa.int64())),
        }
    )
