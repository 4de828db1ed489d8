"""Ingest: read a log and a catalogue, write sequences, samples, items and statistics."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial

import pyarrow as pa
import ray
import ray.data

from cluster.errors import UserError
from cluster.progress import Progress
from cluster.storage import Storage
from pipeline.engine.config import MinInteractionsConfig
from pipeline.ingest.core import find_core
from pipeline.ingest.examine import Examination, say_columns
from pipeline.ingest.files.datafile import DataFile
from pipeline.ingest.files.headers import Header, read_headers
from pipeline.ingest.files.sources import find_files
from pipeline.ingest.ingest_spec import IngestSpec
from pipeline.ingest.log_survey import LogSurvey, merge_surveys, shard_count, survey_block
from pipeline.ingest.notices import say, warnings_of
from pipeline.ingest.reading import log_reader, plan_tasks, read_catalogue
from pipeline.ingest.samples import SampleRules
from pipeline.ingest.shuffle import ROWS_PER_PARTITION, by_shard, map_blocks, passed, read_log, user_faults
from pipeline.ingest.split_files import settle_split
from pipeline.ingest.splits import TimeCuts
from pipeline.ingest.statistics import IngestTally
from pipeline.ingest.statistics_record import (
    STATISTICS_FILE,
    CutTimes,
    DroppedCounts,
    IngestStatistics,
    InteractionCounts,
    ItemCounts,
    LogTotals,
)
from pipeline.ingest.time_cuts import find_cuts
from pipeline.ingest.unusable_logs import require_choice, require_core, require_parts, require_rows, require_titles
from pipeline.ingest.values.columns import Roles, also_usual, resolve_catalogue, resolve_log
from pipeline.ingest.values.title_checks import count_titles
from pipeline.ingest.vocabulary import IsLong, Vocabulary, build_vocabulary, items_table
from pipeline.ingest.writer import UNTOLD, ShardWriter, drop_duplicates, write_shards
from scoring.ids import item_keys

log = logging.getLogger("dealrec.ingest")

_OUTPUTS = ("sequences", "samples", UNTOLD, "items.parquet", STATISTICS_FILE)


def ingest(
    spec: IngestSpec,
    out: Storage,
    progress: Progress,
    rows_per_partition: int = ROWS_PER_PARTITION,
    is_long: IsLong | None = None,
) -> IngestStatistics:
    """Read a log and write what the other stages need; the result does not depend on files, order or cluster.

    Remains of an earlier ingest are removed first. Files are checked on the driver before any task starts. Exact
    duplicates (same user, item, timestamp and position) count once and are dropped before the split.

    Parameters
    ----------
    out : the run's `data/` folder, for `sequences/`, `samples/{train,valid,test}/`, `items.parquet` and
        `statistics.json`.
    rows_per_partition : interactions that one task groups and sorts in memory.
    is_long : which titles are too long; their items are left out of the log and the catalogue. None leaves none out.

    Returns
    -------
    The content of `statistics.json`. Raises `UserError` for every fault of the input.
    """
    files = find_files(spec.interactions, "data.interactions", skip_suffix=".item")
    _require_outside(out, files, "data.interactions")
    _say_tables(files, "data.interactions")
    spec, headers = settle_split(spec, read_headers(files))
    roles = resolve_log(headers, spec)
    catalogue = _catalogue(spec, out)
    _clear(out)
    work = _Ingest(spec, out, progress, rows_per_partition, is_long)
    try:
        with user_faults():
            return work.run(headers, roles, catalogue)
    except UserError:
        for doubt in work.doubts:  # one of these may be the cause
            log.warning("%s", doubt)
        _clear(out)
        raise


def _catalogue(spec: IngestSpec, out: Storage) -> pa.Table | None:
    if spec.items is None:
        return None
    files = find_files(spec.items, "data.items", skip_suffix=".inter")
    _require_outside(out, files, "data.items")
    _say_tables(files, "data.items")
    headers = read_headers(files)
    return read_catalogue(headers, resolve_catalogue(headers, spec), spec)


def _require_outside(out: Storage, files: Sequence[DataFile], key: str) -> None:
    """Refuse inputs inside the folder that ingest clears and writes to."""
    for file in files:
        if Storage.at(file.name).uri.startswith(f"{out.uri}/"):
            raise UserError(
                f"{key}: {file.name} lies in {out.uri}, a folder that the run clears.",
                "Choose another run directory with --run-dir, or keep the file elsewhere.",
            )


def _say_tables(files: Sequence[DataFile], key: str) -> None:
    """Log which version of a table is read, since the next write creates another."""
    for source in sorted({file.rows.source for file in files if file.rows is not None}):
        log.info("%s: reading %s", key, source)


def _clear(out: Storage) -> None:
    for name in _OUTPUTS:
        out.delete(name)


class _Ingest:
    """One ingest in progress."""

    def __init__(
        self, spec: IngestSpec, out: Storage, progress: Progress, rows_per_partition: int, is_long: IsLong | None
    ) -> None:
        self.spec = spec
        self.out = out
        self.progress = progress
        self.rows_per_partition = rows_per_partition
        self.is_long = is_long
        self.doubts: list[str] = []

    def run(self, headers: Sequence[Header], roles: Roles, catalogue: pa.Table | None) -> IngestStatistics:
        self.progress.update(0, 1, doing="reading the log")
        tasks, reader = plan_tasks(headers), log_reader(headers, roles, self.spec)
        for line in say_columns(roles, also_usual(headers[0], roles, self.spec)):
            log.info("%s", line)
        rows = read_log(tasks, reader)
        survey = merge_surveys(passed(rows, survey_block))
        require_rows(self.spec, survey)
        findings = Examination(self.spec, survey, catalogue, tasks, reader, partial(_title_counts, rows)).findings()
        self.doubts = findings.warnings
        vocabulary = build_vocabulary(survey.items, catalogue, self.spec.missing_title, self.is_long)
        kept = require_titles(self.spec, survey, vocabulary, catalogue)
        shards = self.spec.shards or shard_count(survey.rows[0], survey.users, self.spec.per_user)
        self.progress.update(0, shards, doing="grouping by user", interactions=kept)
        grouped = by_shard(rows, vocabulary.item_ids, shards, self.rows_per_partition)
        del rows  # replaced by a shuffled copy, so the object store may free it
        grouped, vocabulary, below = self._narrowed(grouped, vocabulary)
        keys = ray.put(item_keys(vocabulary.item_ids.to_pylist()))
        cuts = find_cuts(grouped, survey) if self.spec.split == "global_time" else None
        tally = self._write(grouped, survey, vocabulary, keys, shards, cuts)
        require_parts(self.spec, tally, cuts)
        require_choice(self.spec, vocabulary)
        duplicates = kept - below - int(tally.interactions.sum())
        totals: LogTotals = {
            **tally.statistics(),
            "interactions": _interaction_counts(survey, tally),
            "items": _item_counts(vocabulary, tally),
            "dropped": _dropped_counts(survey, vocabulary, below, duplicates),
            "split": self.spec.split,
            "min_rating": self.spec.min_rating,
            "per_user": self.spec.per_user,
            "max_history": self.spec.max_history,
            "values": findings.statistics,
            "cuts": _cuts_as_json(cuts, survey),
            "shards": shards,
            "columns": dict(roles),
        }
        statistics: IngestStatistics = {**totals, "warnings": [*findings.warnings, *warnings_of(totals)]}
        self.out.write_table("items.parquet", items_table(vocabulary, tally.item_counts[0]))
        self.out.write_json(STATISTICS_FILE, statistics)
        rejected = totals["interactions"]["read"] - totals["interactions"]["kept"]
        self.progress.update(shards, shards, samples=int(tally.samples[0]), rejected=rejected)
        say(statistics)
        return statistics

    def _narrowed(self, grouped: ray.data.Dataset, vocabulary: Vocabulary) -> tuple[ray.data.Dataset, Vocabulary, int]:
        """Drop duplicates if that must happen before the split, and take the k-core if it is wanted.

        Return the interactions left, their items, and how many interactions are outside the core.
        """
        least = self.spec.min_interactions
        if self.spec.split == "global_time" or least != MinInteractionsConfig():
            grouped = map_blocks(grouped, drop_duplicates).materialize()
        if least == MinInteractionsConfig():
            return grouped, vocabulary, 0
        self.progress.update(0, 1, doing="finding users and items with enough interactions")
        core = find_core(grouped, len(vocabulary), least)
        require_core(self.spec, core)
        return core.of(grouped), core.vocabulary(vocabulary), grouped.count() - core.interactions

    def _write(
        self,
        grouped: ray.data.Dataset,
        survey: LogSurvey,
        vocabulary: Vocabulary,
        keys: ray.ObjectRef,
        shards: int,
        cuts: TimeCuts | None,
    ) -> IngestTally:
        """Write every shard; shards without users are written here, empty."""
        rules = SampleRules(self.spec.per_user, self.spec.max_history, survey.whole_timestamps)
        writer = ShardWriter(self.out, self.spec.split, rules, cuts)
        tally = IngestTally.for_items(len(vocabulary))
        for facts in passed(grouped, write_shards, writer=writer, item_keys=keys):
            tally.add(facts)
            self.progress.update(len(tally.shards), shards, samples=int(tally.samples[0]))
        empty = grouped.schema().base_schema.empty_table()
        for shard in sorted(set(range(shards)) - tally.shards):
            tally.add(writer.write_shard(shard, empty, ray.get(keys)))
        return tally


def _interaction_counts(survey: LogSurvey, tally: IngestTally) -> InteractionCounts:
    read = sum(survey.rows) + survey.missing_ids
    return {"read": read, "kept": int(tally.interactions.sum()), **tally.statistics()["interactions"]}


def _item_counts(vocabulary: Vocabulary, tally: IngestTally) -> ItemCounts:
    return {
        "all": len(vocabulary),
        "log": vocabulary.in_log,
        "catalogue": vocabulary.in_catalogue,
        "cold": int((tally.item_counts[0, 1:] == 0).sum()),
        "without_title": vocabulary.dropped_items,
        "below_min_interactions": vocabulary.below_least,
        "catalogue_without_title": vocabulary.catalogue_without_title,
        "long_title": vocabulary.long_items,
    }


def _dropped_counts(survey: LogSurvey, vocabulary: Vocabulary, below: int, duplicates: int) -> DroppedCounts:
    return {
        "rating": survey.rows[1],
        "rating_missing": survey.rows[2],
        "id_missing": survey.missing_ids,
        "no_title": vocabulary.dropped_interactions,
        "long_title": vocabulary.long_interactions,
        "min_interactions": below,
        "duplicate": duplicates,
    }


def _title_counts(rows: ray.data.Dataset, items: pa.Array) -> Iterator[pa.Table]:
    return passed(rows, count_titles, items=items)


def _cuts_as_json(cuts: TimeCuts | None, survey: LogSurvey) -> CutTimes | None:
    if cuts is None:
        return None
    kind = int if survey.whole_timestamps else float
    return {"train_until": kind(cuts.train_until), "valid_until": kind(cuts.valid_until)}
