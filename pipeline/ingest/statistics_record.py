"""The content of statistics.json."""

from __future__ import annotations

from typing import Literal, TypedDict, cast

from cluster.storage import Storage
from pipeline.ingest.ingest_spec import SplitName

#: The file in the data folder that holds an `IngestStatistics`.
STATISTICS_FILE = "statistics.json"


class PartCounts(TypedDict):
    """A count for each part of the split."""

    train: int
    valid: int
    test: int


class HeldOutCounts(TypedDict):
    """A count for each held-out part."""

    valid: int
    test: int


class InteractionCounts(PartCounts):
    """Interactions in the files, those that are kept, and those of each part."""

    read: int
    kept: int


class TieCounts(TypedDict):
    """What the log's times leave open, as `pipeline.ingest.statistics.tie_counts` counts it."""

    interactions: int
    consecutive_pairs: int
    of_consecutive_pairs: int
    users_with_tied_target: int
    of_users_with_target: int


class LengthSummary(TypedDict):
    """Interactions per user."""

    mean: float
    median: float
    max: int


class ItemCounts(TypedDict):
    """Items of the vocabulary, and items left out of it."""

    all: int
    log: int
    catalogue: int
    cold: int
    without_title: int
    below_min_interactions: int
    catalogue_without_title: int
    long_title: int


class DroppedCounts(TypedDict):
    """Interactions left out, by reason."""

    rating: int
    rating_missing: int
    id_missing: int
    no_title: int
    long_title: int
    min_interactions: int
    duplicate: int


class ValueFindings(TypedDict, total=False):
    """What an examination of the values counted; a key is absent if there was nothing to count."""

    padded_ids: int
    unknown_times: dict[str, int]
    items_with_several_titles: int


class CutTimes(TypedDict):
    """The last times of train and validation."""

    train_until: float
    valid_until: float


class _UserTotals(TypedDict):
    users: int
    samples: PartCounts
    targets: HeldOutCounts
    cold_targets: HeldOutCounts
    repeated_targets: HeldOutCounts
    empty_histories: PartCounts
    users_with_fewer_than_3: int
    users_out_of_order: int
    ties: TieCounts
    sequence_length: LengthSummary
    longest_user: str


class TallyTotals(_UserTotals):
    """Totals over shards."""

    interactions: PartCounts


class LogTotals(_UserTotals):
    """Everything in statistics.json except the warnings."""

    interactions: InteractionCounts
    items: ItemCounts
    dropped: DroppedCounts
    split: SplitName
    min_rating: float | None
    per_user: Literal["all"] | int
    max_history: int
    values: ValueFindings
    cuts: CutTimes | None
    shards: int
    columns: dict[str, str]


class IngestStatistics(LogTotals):
    """The content of statistics.json."""

    warnings: list[str]


def read_statistics(data: Storage) -> IngestStatistics:
    """Read the `statistics.json` of a data folder. Files of earlier versions may lack some of the keys."""
    return cast(IngestStatistics, data.read_json(STATISTICS_FILE))


def train_count(data: Storage) -> int:
    """Return the number of train samples."""
    return read_statistics(data)["samples"]["train"]
